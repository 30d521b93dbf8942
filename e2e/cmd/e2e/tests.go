package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// A test says which rows it shows in a line of its doc comment, and a spec that
// is no scenario in its call:
//
//	// catalogue: row 15, 25
//	It("an Indexed Job", rows(52), …
var (
	mark     = []byte("// catalogue:")
	specMark = []byte(", rows(")
	markLine = regexp.MustCompile(`^// catalogue:\s*(.*)$`)
	markRows = regexp.MustCompile(`^rows? (\d+(?:, *\d+)*)$`)
)

// skipped are the directories without tests of ours.
var skipped = []string{".git", "bin", "artifacts", "testdata", "vendor", "node_modules"}

// rowsOfTests returns the tests that show rows, from all _test.go files of the
// repository. Most have no mark and are not parsed.
func rowsOfTests(root string) (map[int][]witness, error) {
	shown := map[int][]witness{}
	var errs []error
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(skipped, entry.Name()) && name != root:
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if !bytes.Contains(source, mark) && !bytes.Contains(source, specMark) {
			return nil
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		errs = append(errs, marksIn(filepath.ToSlash(relative), source, shown))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find tests: %w", err)
	}
	return shown, errors.Join(errs...)
}

// marksIn adds the marked tests of one file. A mark that stands above nothing
// is an error, or the row would silently not be shown.
func marksIn(file string, source []byte, shown map[int][]witness) error {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("read marks: %w", err)
	}
	tests := map[*ast.CommentGroup]string{}
	for _, d := range parsed.Decls {
		f, ok := d.(*ast.FuncDecl)
		if ok && f.Doc != nil && f.Recv == nil && (strings.HasPrefix(f.Name.Name, "Test") || strings.HasPrefix(f.Name.Name, "Fuzz")) {
			tests[f.Doc] = f.Name.Name
		}
	}
	var errs []error
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, rows := specOf(n)
		for _, row := range rows {
			if row < 1 || row > scenario.MaxRow {
				errs = append(errs, fmt.Errorf("%s:%d: row %d is not in the catalogue, allowed is 1 to %d", file, files.Position(n.Pos()).Line, row, scenario.MaxRow))
				continue
			}
			shown[row] = append(shown[row], witness{file: file, test: spec})
		}
		return true
	})
	for _, group := range parsed.Comments {
		for _, comment := range group.List {
			marked := markLine.FindStringSubmatch(comment.Text)
			if marked == nil {
				continue
			}
			bad := func(format string, args ...any) {
				errs = append(errs, fmt.Errorf("%s:%d: %s", file, files.Position(comment.Pos()).Line, fmt.Sprintf(format, args...)))
			}
			test, above := tests[group]
			list := markRows.FindStringSubmatch(marked[1])
			switch {
			case !above:
				bad("the mark does not stand directly above a test")
				continue
			case list == nil:
				bad("the mark is %q, expected is as // catalogue: row 15, 25", comment.Text)
				continue
			}
			for text := range strings.SplitSeq(list[1], ",") {
				row, err := strconv.Atoi(strings.TrimSpace(text))
				if err != nil || row < 1 || row > scenario.MaxRow {
					bad("row %s is not in the catalogue, allowed is 1 to %d", strings.TrimSpace(text), scenario.MaxRow)
					continue
				}
				shown[row] = append(shown[row], witness{file: file, test: test})
			}
		}
	}
	return errors.Join(errs...)
}

// specOf returns the name and the rows of a call of Ginkgo's It that has some.
func specOf(n ast.Node) (name string, rows []int) {
	call, ok := n.(*ast.CallExpr)
	if !ok || !calls(call, "It") || len(call.Args) == 0 {
		return "", nil
	}
	for _, arg := range call.Args {
		switch arg := arg.(type) {
		case *ast.BasicLit:
			name, _ = strconv.Unquote(arg.Value)
		case *ast.CallExpr:
			if !calls(arg, "rows") {
				continue
			}
			for _, number := range arg.Args {
				if literal, ok := number.(*ast.BasicLit); ok {
					row, _ := strconv.Atoi(literal.Value)
					rows = append(rows, row)
				}
			}
		}
	}
	return name, rows
}

func calls(call *ast.CallExpr, function string) bool {
	ident, ok := call.Fun.(*ast.Ident)
	return ok && ident.Name == function
}
