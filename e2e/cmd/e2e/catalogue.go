package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
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

// mark is how a test says which rows it shows, in the last line of its doc comment, and
// a spec that is no scenario, in its call:
//
//	// catalogue: row 15, 25
//	It("an Indexed Job", rows(52), …
var mark = regexp.MustCompile(`(?m)^// catalogue:(?: rows?)?(.*)(?:\nfunc ((?:Test|Fuzz)\w+))?|` +
	`\bIt\("((?:[^"\\]|\\.)*)",.*\brows\(([^)]*)\)`)

// whatShows returns the scenarios that show rows, with their number, and the tests of the
// repository that are marked.
func whatShows(all []scenario.Scenario) (map[witness]int, error) {
	var errs []error
	shown, root := make(map[witness]int), os.DirFS(".")
	for _, s := range all {
		for _, row := range s.Rows {
			shown[witness{row: row, file: s.Path}]++
		}
	}
	for _, top := range []string{"e2e", "fakegpu", "runner"} {
		err := fs.WalkDir(root, top, func(name string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, "_test.go") {
				return err
			}
			source, err := fs.ReadFile(root, name)
			errs = append(errs, addMarked(shown, name, string(source)))
			return err
		})
		errs = append(errs, err)
	}
	return shown, errors.Join(errs...)
}

// addMarked adds the marked tests of one file. A mark that stands above nothing
// is an error, or the row would silently not be shown.
func addMarked(shown map[witness]int, file, source string) error {
	var errs []error
	for _, at := range mark.FindAllStringIndex(source, -1) {
		where := fmt.Sprintf("%s:%d", file, 1+strings.Count(source[:at[0]], "\n"))
		found := mark.FindStringSubmatch(source[at[0]:at[1]])
		name, list := found[2]+found[3], found[1]+found[4]
		if name == "" {
			errs = append(errs, fmt.Errorf("%s: the mark does not stand directly above a test", where))
			continue
		}
		for text := range strings.SplitSeq(list, ",") {
			text = strings.TrimSpace(text)
			row, err := strconv.Atoi(text)
			if err != nil || row < 1 || row > int(catalogue.Last) {
				errs = append(errs, fmt.Errorf("%s: row %s is not in the catalogue; must be 1 to %d", where, text, catalogue.Last))
			}
			shown[witness{catalogue.Row(row), file, name}]++
		}
	}
	return errors.Join(errs...)
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
