package main

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/catalogue"
	"github.com/studioml/studio-go-runner/e2e/engine"
)

// The markers around the table in scenarios/README.md.
const (
	tableStart = "<!-- catalogue: written by go run ./e2e/cmd/e2e scenarios catalogue -->"
	tableEnd   = "<!-- end of catalogue -->"
)

// witness is what shows a row: a scenario file or a test.
type witness struct {
	file  string // from the root of the repository, with slashes
	test  string // name of the Go test, empty for a scenario file
	count int    // of scenarios in the file
}

// whatShows returns what shows each row, in a fixed order.
func whatShows(root string) (map[catalogue.Row][]witness, error) {
	all, err := engine.Format.LoadDir(filepath.Join(root, "scenarios"))
	if err != nil {
		return nil, err
	}
	shown, err := rowsOfTests(root)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		for _, row := range s.Rows {
			i := slices.IndexFunc(shown[row], func(w witness) bool { return w.file == s.Path })
			if i < 0 {
				i = len(shown[row])
				shown[row] = append(shown[row], witness{file: s.Path})
			}
			shown[row][i].count++
		}
	}
	for _, witnesses := range shown {
		slices.SortFunc(witnesses, func(a, b witness) int {
			return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.test, b.test))
		})
	}
	return shown, nil
}

// table writes the catalogue as Markdown.
func table(shown map[catalogue.Row][]witness) string {
	var b strings.Builder
	b.WriteString("| row | what | shown by |\n|---:|---|---|\n")
	part := ""
	for _, row := range catalogue.Rows {
		if row.Part != part {
			part = row.Part
			fmt.Fprintf(&b, "| | **%s** | |\n", part)
		}
		var by []string
		for _, w := range shown[row.Number] {
			by = append(by, w.markdown())
		}
		if len(by) == 0 {
			by = []string{"**missing**"}
		}
		fmt.Fprintf(&b, "| %d | %s | %s |\n", row.Number, row.Title, strings.Join(by, "<br>"))
	}
	return b.String()
}

// markdown links the witness from scenarios/README.md.
func (w witness) markdown() string {
	if w.test != "" {
		return fmt.Sprintf("[%s](../%s) in %s", w.test, w.file, path.Dir(w.file))
	}
	name := strings.TrimPrefix(w.file, "scenarios/")
	if w.count == 1 {
		return fmt.Sprintf("[%s](%s)", name, name)
	}
	return fmt.Sprintf("[%s](%s) (%d)", name, name, w.count)
}

// replaceTable puts a table between the markers of a document.
func replaceTable(document []byte, table string) ([]byte, error) {
	before, rest, start := bytes.Cut(document, []byte(tableStart+"\n"))
	_, after, end := bytes.Cut(rest, []byte(tableEnd))
	if !start || !end {
		return nil, fmt.Errorf("scenarios/README.md: the lines %q and %q must stand around the catalogue", tableStart, tableEnd)
	}
	return fmt.Appendf(nil, "%s%s\n%s%s%s", before, tableStart, table, tableEnd, after), nil
}
