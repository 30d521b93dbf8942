package mutants

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
)

// fault is one thing that is wrong in a mutant.
type fault struct {
	number  int // from 1 in its package; what MUTANT is then
	line    int
	key     string // file, function and change: what areas.yaml calls it
	verdict verdict
	reason  string // why it may survive
}

func (f *fault) String() string {
	file, change, _ := strings.Cut(f.key, " ")
	return fmt.Sprintf("%s:%d: %s", file, f.line, change)
}

// switchFile is added to every package that has faults.
const switchFile = `package %s

import "os"

var mutant = os.Getenv("MUTANT")
`

// shifted are comparisons that are right but for one value.
var shifted = map[token.Token]string{token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">"}

// breaker puts the faults of a package into its source, each behind a switch,
// so that the package is built once for all of them.
type breaker struct {
	faults      []*fault
	keys        map[string]int // how often one came
	set         *token.FileSet
	open, close map[token.Pos]string // what goes before a place

	text  string // of the present file
	where string // file and function
}

// breakIn fills in the faults of an area, and its files.
func (a *area) breakIn() error {
	found, err := build.ImportDir(a.Package, 0)
	if err != nil {
		return err
	}
	b := &breaker{keys: make(map[string]int), set: token.NewFileSet()}
	b.open, b.close = make(map[token.Pos]string), make(map[token.Pos]string)
	a.files = map[string]string{a.Package + "/mutants_switch.go": fmt.Sprintf(switchFile, found.Name)}
	for _, name := range found.GoFiles {
		path := a.Package + "/" + name
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if a.files[path], err = b.file(path, string(text)); err != nil {
			return err
		}
	}
	a.faults = b.faults
	return nil
}

// file returns a file with its faults; every line stays where it is.
func (b *breaker) file(name, text string) (string, error) {
	b.text = text
	parsed, err := parser.ParseFile(b.set, name, text, 0)
	if err != nil {
		return "", err
	}
	for _, d := range parsed.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
			b.where = name + " "
			if f.Recv != nil {
				b.where += strings.Trim(b.source(f.Recv.List[0].Type), "*") + "."
			}
			b.where += f.Name.Name
			ast.Inspect(f.Body, b.visit)
		}
	}
	var out strings.Builder
	for i, c := range []byte(text) {
		at := parsed.FileStart + token.Pos(i)
		out.WriteString(b.close[at] + b.open[at])
		out.WriteByte(c)
	}
	return out.String(), nil
}

func (b *breaker) source(n ast.Node) string {
	return b.text[b.set.Position(n.Pos()).Offset:b.set.Position(n.End()).Offset]
}

// wrap puts text around a node. It is called from the outside in.
func (b *breaker) wrap(n ast.Node, l, r string) {
	b.open[n.Pos()] += l
	b.close[n.End()] = r + b.close[n.End()]
}

// fault adds a fault and returns the condition that it is on.
func (b *breaker) fault(n ast.Node, change string) string {
	key := fmt.Sprintf("%s: %s", b.where, strings.Join(strings.Fields(change), " "))
	if b.keys[key]++; b.keys[key] > 1 {
		key += fmt.Sprintf(" #%d", b.keys[key])
	}
	f := &fault{number: len(b.faults) + 1, line: b.set.Position(n.Pos()).Line, key: key, verdict: unplayed}
	b.faults = append(b.faults, f)
	return fmt.Sprintf(`mutant == "%d"`, f.number)
}

func (b *breaker) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.BlockStmt:
		b.statements(n.List)
	case *ast.CommClause:
		b.statements(n.Body)
	case *ast.CaseClause:
		b.statements(n.Body)
	case *ast.IfStmt:
		b.conditions(n.Cond)
	case *ast.ForStmt:
		b.conditions(n.Cond)
	case *ast.SwitchStmt:
		for _, c := range n.Body.List {
			if n.Tag == nil {
				b.conditions(c.(*ast.CaseClause).List...)
			}
		}
	case *ast.BinaryExpr:
		switch n.Op {
		case token.LAND, token.LOR:
			b.conditions(n.X, n.Y)
		case token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ:
			b.comparison(n)
		}
	}
	return true
}

// comparison negates one, and shifts it if it says which of two is more.
func (b *breaker) comparison(e *ast.BinaryExpr) {
	b.negate(e)
	if op := shifted[e.Op]; op != "" {
		other := strings.ReplaceAll(b.source(e.X)+" "+op+" "+b.source(e.Y), "\n", " ")
		on := "(" + b.fault(e, "shift "+b.source(e)) + ")"
		b.wrap(e, "(!"+on+" && (", ") || "+on+" && ("+other+"))")
	}
}

func (b *breaker) negate(e ast.Expr) {
	b.wrap(e, "(("+b.fault(e, "negate "+b.source(e))+") != (", "))")
}

// conditions negates what is no comparison. What is made of others by && and ||
// and ! is left to them.
func (b *breaker) conditions(list ...ast.Expr) {
	for _, e := range list {
		e = ast.Unparen(e)
		inner := e
		if not, ok := e.(*ast.UnaryExpr); ok {
			inner = ast.Unparen(not.X)
		}
		if _, made := inner.(*ast.BinaryExpr); e != nil && !made {
			b.negate(e)
		}
	}
}

// statements leaves out those that have no result: calls, assignments to
// fields, defers.
func (b *breaker) statements(list []ast.Stmt) {
	for _, s := range list {
		text := b.source(s)
		drop := false
		switch s := s.(type) {
		case *ast.ExprStmt:
			drop = !strings.HasPrefix(text, "panic(") // without it, a result may be missing
		case *ast.DeferStmt:
			drop = true
		case *ast.IncDecStmt:
			drop = isField(s.X)
		case *ast.AssignStmt:
			drop = s.Tok != token.DEFINE && slices.ContainsFunc(s.Lhs, isField)
		}
		if drop {
			first, _, _ := strings.Cut(text, "\n")
			b.wrap(s, "if !("+b.fault(s, "drop "+first)+") { ", " }")
		}
	}
}

func isField(e ast.Expr) bool {
	_, local := e.(*ast.Ident)
	return !local
}
