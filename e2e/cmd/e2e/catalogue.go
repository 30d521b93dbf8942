package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/catalogue"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// The markers around the table in scenarios/README.md.
const (
	tableStart = "<!-- catalogue: written by make generate -->"
	tableEnd   = "<!-- end of catalogue -->"
)

var readmeFile = filepath.Join("scenarios", "README.md")

// witness is what shows a row: a scenario file or a test.
type witness struct {
	row  catalogue.Row
	file string // from the root of the repository, with slashes
	test string // name of the Go test, empty for a scenario file
}

// readme returns scenarios/README.md as it is, and with the table of what shows each row.
func readme(all []scenario.Scenario) (old, text []byte, err error) {
	shown, err := whatShows(all)
	if err != nil {
		return nil, nil, err
	}
	if old, err = os.ReadFile(readmeFile); err != nil {
		return nil, nil, err
	}
	before, rest, start := bytes.Cut(old, []byte(tableStart+"\n"))
	_, after, end := bytes.Cut(rest, []byte(tableEnd))
	if !start || !end {
		return nil, nil, fmt.Errorf("%s: the lines %q and %q must stand around the catalogue", readmeFile, tableStart, tableEnd)
	}
	return old, fmt.Appendf(nil, "%s%s\n%s%s%s", before, tableStart, table(shown), tableEnd, after), nil
}

// whatShows adds to the marked tests what the scenarios show, with their number.
func whatShows(all []scenario.Scenario) (map[witness]int, error) {
	shown, err := markedTests()
	for _, s := range all {
		for _, row := range s.Rows {
			shown[witness{row: row, file: s.Path}]++
		}
	}
	return shown, err
}

// table writes the catalogue as Markdown.
func table(shown map[witness]int) string {
	links := make(map[catalogue.Row][]string)
	for _, w := range slices.SortedFunc(maps.Keys(shown), func(a, b witness) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.test, b.test))
	}) {
		links[w.row] = append(links[w.row], w.markdown(shown[w]))
	}
	var b strings.Builder
	b.WriteString("| row | what | shown by |\n|---:|---|---|\n")
	part := ""
	for _, row := range catalogue.Rows {
		if row.Part != part {
			part = row.Part
			fmt.Fprintf(&b, "| | **%s** | |\n", part)
		}
		fmt.Fprintf(&b, "| %d | %s | %s |\n", row.Number, row.Title, cmp.Or(strings.Join(links[row.Number], "<br>"), "**missing**"))
	}
	return b.String()
}

// markdown links the witness from scenarios/README.md.
func (w witness) markdown(count int) string {
	name := strings.TrimPrefix(w.file, "scenarios/")
	switch {
	case w.test != "":
		return fmt.Sprintf("[%s](../%s) in %s", w.test, w.file, path.Dir(w.file))
	case count > 1:
		return fmt.Sprintf("[%s](%s) (%d)", name, name, count)
	}
	return fmt.Sprintf("[%s](%s)", name, name)
}
