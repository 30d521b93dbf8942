package main

import (
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
	pkg    string // its package's directory
	number int    // from 1 in its package; what switchOn is called with
	line   int
	key    string // file, function and change: what accepted.txt calls it
}

// switchOn is the function that makes a fault, in every package that has some.
const switchOn = "mutantsSwitch"

// shifted are comparisons that are right but for one value.
var shifted = map[token.Token]string{token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">"}

// breaker puts the faults of a package into its source, each behind a switch,
// so that the package is built once for all of them.
type breaker struct {
	pkg    string
	faults []fault
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
func breakPackage(root, pkg string) ([]fault, map[string]string, error) {
	dir := filepath.Join(root, pkg)
	found, err := build.ImportDir(dir, 0)
	if err != nil {
		return nil, nil, err
	}
	b := &breaker{pkg: pkg, keys: make(map[string]int)}
	files := map[string]string{filepath.Join(dir, "mutants_switch.go"): fmt.Sprintf(switchFile, found.Name, mostFaults)}
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
			b.function = f.Name.Name
			if f.Recv != nil {
				b.function = strings.Trim(b.source(f.Recv.List[0].Type), "*") + "." + b.function
			}
			ast.Inspect(f.Body, b.visit)
		}
	}
	// Those that begin at one place open in the order in which they were found,
	// which is from the outside in. Closing texts were found in that order too,
	// but end from the inside out; wrap has put them the right way round.
	slices.SortStableFunc(b.inserts, func(x, y insert) int { return x.at - y.at })
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
func (b *breaker) wrap(n ast.Node, l, r string) { // around what was wrapped before inside of n
	b.inserts = append(b.inserts, insert{b.offset(n.Pos()), l})
	b.inserts = slices.Insert(b.inserts, 0, insert{b.offset(n.End()), r})
}

// fault adds a fault and returns the call that asks whether it is on.
func (b *breaker) fault(n ast.Node, change string) string {
	key := fmt.Sprintf("%s %s: %s", b.name, b.function, strings.Join(strings.Fields(change), " "))
	if b.keys[key]++; b.keys[key] > 1 {
		key += fmt.Sprintf(" #%d", b.keys[key])
	}
	b.faults = append(b.faults, fault{b.pkg, len(b.faults) + 1, b.set.Position(n.Pos()).Line, key})
	return fmt.Sprintf("%s(%d)", switchOn, len(b.faults))
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
		if n.Tag == nil {
			for _, c := range n.Body.List {
				for _, e := range c.(*ast.CaseClause).List {
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
	if e == nil || b.seen[ast.Unparen(e)] {
		return
	}
	e = ast.Unparen(e)
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
	switch {
	case !ok:
	case shifted[compare.Op] != "":
		other := b.source(compare.X) + " " + shifted[compare.Op] + " " + b.source(compare.Y)
		on := b.fault(e, "shift "+b.source(e))
		b.wrap(e, "(!"+on+" && (", ") || "+on+" && ("+strings.ReplaceAll(other, "\n", " ")+"))")
	default: // a == (b == c) is negated by negating either
		for _, part := range []ast.Expr{compare.X, compare.Y} {
			if inner, ok := ast.Unparen(part).(*ast.BinaryExpr); ok && shifted[inner.Op] == "" {
				b.seen[inner] = inner.Op == token.EQL || inner.Op == token.NEQ
			}
		}
	}
}

// statements leaves out those that have no result: calls, assignments to
// fields, defers.
func (b *breaker) statements(list []ast.Stmt) {
	for _, s := range list {
		drop := false
		switch s := s.(type) {
		case *ast.ExprStmt:
			call, ok := s.X.(*ast.CallExpr)
			drop = !ok || b.source(call.Fun) != "panic" // without it, a result may be missing
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

// switchFile is the file that is added to a package. What is reached is noted in
// memory, which costs no file when a test has used them up, and nothing that
// another user would not get.
const switchFile = `package %s

import (
	mutantsOS "os"
	mutantsConv "strconv"
	mutantsCall "syscall"
)

var mutantsOn, _ = mutantsConv.Atoi(mutantsOS.Getenv("MUTANT"))
var mutantsReached = mutantsMap(mutantsOS.Getenv("MUTANTS_REACHED"))

func mutantsMap(path string) []byte {
	if path == "" {
		return nil
	}
	f, err := mutantsOS.OpenFile(path, mutantsOS.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	reached, err := mutantsCall.Mmap(int(f.Fd()), 0, %d, mutantsCall.PROT_READ|mutantsCall.PROT_WRITE, mutantsCall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	return reached
}

func mutantsSwitch(n int) bool {
	if mutantsReached != nil {
		mutantsReached[n] = 1
	}
	return n == mutantsOn
}
`

// mostFaults is how many a package may have.
const mostFaults = 1 << 14
