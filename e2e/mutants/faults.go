package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// fault is one thing that is wrong in a mutant.
type fault struct {
	pkg     string // its package's directory
	number  int    // from 1 in its package; what the switch is called with
	line    int
	key     string // file, function and change: what accepted.yaml calls it
	verdict verdict
	reason  string // why it may survive
}

func (f *fault) String() string {
	file, change, _ := strings.Cut(f.key, " ")
	return fmt.Sprintf("%s:%d: %s", file, f.line, change)
}

// switchFile is added to every package that has faults.
const switchFile = `package %s

import (
	mutantsOS "os"
	mutantsConv "strconv"
)

var mutantsOn, _ = mutantsConv.Atoi(mutantsOS.Getenv("MUTANT"))

func mutantsSwitch(n int) bool { return n == mutantsOn }
`

// shifted are comparisons that are right but for one value.
var shifted = map[token.Token]string{token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">"}

// breaker puts the faults of a package into its source, each behind a switch,
// so that the package is built once for all of them.
type breaker struct {
	pkg    string
	faults []*fault
	keys   map[string]int // how often one came

	// Of the present file.
	name     string
	set      *token.FileSet
	text     string
	function string
	inserts  []insert
	seen     map[ast.Expr]bool // conditions
}

// insert is text that goes before an offset of the file.
type insert struct {
	at   int
	text string
}

// breakPackage returns the faults of a package and its changed files by path.
func breakPackage(root, pkg string) ([]*fault, map[string]string, error) {
	dir := filepath.Join(root, pkg)
	found, err := build.ImportDir(dir, 0)
	if err != nil {
		return nil, nil, err
	}
	b := &breaker{pkg: pkg, keys: make(map[string]int)}
	files := map[string]string{filepath.Join(dir, "mutants_switch.go"): fmt.Sprintf(switchFile, found.Name)}
	for _, name := range found.GoFiles {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, nil, err
		}
		if files[filepath.Join(dir, name)], err = b.file(pkg+"/"+name, string(text)); err != nil {
			return nil, nil, err
		}
	}
	return b.faults, files, nil
}

// file returns a file with its faults; every line stays where it is.
func (b *breaker) file(name, text string) (string, error) {
	b.name, b.set, b.text, b.inserts, b.seen = name, token.NewFileSet(), text, nil, make(map[ast.Expr]bool)
	parsed, err := parser.ParseFile(b.set, name, text, 0)
	if err != nil {
		return "", err
	}
	for _, d := range parsed.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
			if b.function = f.Name.Name; f.Recv != nil {
				b.function = strings.Trim(b.source(f.Recv.List[0].Type), "*") + "." + b.function
			}
			ast.Inspect(f.Body, b.visit)
		}
	}
	slices.SortStableFunc(b.inserts, func(x, y insert) int { return cmp.Compare(x.at, y.at) })
	var out strings.Builder
	end := 0
	for _, i := range b.inserts {
		out.WriteString(text[end:i.at] + i.text)
		end = i.at
	}
	return out.String() + text[end:], nil
}

func (b *breaker) offset(p token.Pos) int   { return b.set.Position(p).Offset }
func (b *breaker) source(n ast.Node) string { return b.text[b.offset(n.Pos()):b.offset(n.End())] }

// wrap puts text around a node. It is called from the outside in: what closes goes
// before what has closed at that place so far.
func (b *breaker) wrap(n ast.Node, l, r string) {
	b.inserts = append(b.inserts, insert{b.offset(n.Pos()), l})
	b.inserts = slices.Insert(b.inserts, 0, insert{b.offset(n.End()), r})
}

// fault adds a fault and returns the call that asks whether it is on.
func (b *breaker) fault(n ast.Node, change string) string {
	key := fmt.Sprintf("%s %s: %s", b.name, b.function, strings.Join(strings.Fields(change), " "))
	if b.keys[key]++; b.keys[key] > 1 {
		key += fmt.Sprintf(" #%d", b.keys[key])
	}
	b.faults = append(b.faults, &fault{pkg: b.pkg, number: len(b.faults) + 1, line: b.set.Position(n.Pos()).Line, key: key, verdict: unplayed})
	return fmt.Sprintf("mutantsSwitch(%d)", len(b.faults))
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
		b.condition(n.Cond)
	case *ast.ForStmt:
		b.condition(n.Cond)
	case *ast.SwitchStmt:
		for _, c := range n.Body.List {
			for _, e := range c.(*ast.CaseClause).List {
				if n.Tag == nil {
					b.condition(e)
				}
			}
		}
	case *ast.BinaryExpr:
		switch n.Op {
		case token.LAND, token.LOR:
			b.condition(n.X)
			b.condition(n.Y)
		case token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ:
			b.condition(n)
		}
	}
	return true
}

// condition negates one, and shifts it if it says which of two is more. What
// is made of others by && and || and ! is left to them.
func (b *breaker) condition(e ast.Expr) {
	e = ast.Unparen(e)
	if e == nil || b.seen[e] {
		return
	}
	b.seen[e] = true
	if not, ok := e.(*ast.UnaryExpr); ok {
		if _, ok := ast.Unparen(not.X).(*ast.BinaryExpr); ok {
			return
		}
	}
	compare, ok := e.(*ast.BinaryExpr)
	if ok && (compare.Op == token.LAND || compare.Op == token.LOR) {
		return
	}
	b.wrap(e, "("+b.fault(e, "negate "+b.source(e))+" != (", "))")
	if ok && shifted[compare.Op] != "" {
		other := b.source(compare.X) + " " + shifted[compare.Op] + " " + b.source(compare.Y)
		on := b.fault(e, "shift "+b.source(e))
		b.wrap(e, "(!"+on+" && (", ") || "+on+" && ("+strings.ReplaceAll(other, "\n", " ")+"))")
	}
}

// statements leaves out those that have no result: calls, assignments to
// fields, defers.
func (b *breaker) statements(list []ast.Stmt) {
	for _, s := range list {
		drop := false
		switch s := s.(type) {
		case *ast.ExprStmt:
			drop = !strings.HasPrefix(b.source(s), "panic(") // without it, a result may be missing
		case *ast.DeferStmt:
			drop = true
		case *ast.IncDecStmt:
			drop = isField(s.X)
		case *ast.AssignStmt:
			drop = s.Tok != token.DEFINE && slices.ContainsFunc(s.Lhs, isField)
		}
		if drop {
			first, _, _ := strings.Cut(b.source(s), "\n")
			b.wrap(s, "if !"+b.fault(s, "drop "+first)+" { ", " }")
		}
	}
}

func isField(e ast.Expr) bool {
	switch e.(type) {
	case *ast.SelectorExpr, *ast.IndexExpr, *ast.StarExpr:
		return true
	}
	return false
}
