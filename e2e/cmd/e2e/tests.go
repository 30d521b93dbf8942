package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// A test says which rows it shows in the last line of its doc comment, and a spec
// that is no scenario in its call:
//
//	// catalogue: row 15, 25
//	It("an Indexed Job", rows(52), …
var (
	marks = regexp.MustCompile(`(?m)^// catalogue:(.*)\n(func (?:Test|Fuzz)\w+)?|\bIt\("((?:[^"\\]|\\.)*)",.*\brows\(([0-9, ]*)\)`)
	rows  = regexp.MustCompile(`^(?: rows? )?(\d+(?:, *\d+)*)$`)
)

// skipped are the directories without tests of ours.
var skipped = []string{".git", "bin", "artifacts", "testdata", "vendor", "node_modules"}

// rowsOfTests returns the tests that show rows, from all _test.go files of the
// repository.
func rowsOfTests(root string) (map[scenario.Row][]witness, error) {
	shown := map[scenario.Row][]witness{}
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
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		errs = append(errs, marksIn(filepath.ToSlash(relative), string(source), shown))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find tests: %w", err)
	}
	return shown, errors.Join(errs...)
}

// marksIn adds the marked tests of one file. A mark that stands above nothing
// is an error, or the row would silently not be shown.
func marksIn(file, source string, shown map[scenario.Row][]witness) error {
	var errs []error
	for _, at := range marks.FindAllStringSubmatchIndex(source, -1) {
		group := func(n int) string {
			if at[2*n] < 0 {
				return ""
			}
			return source[at[2*n]:at[2*n+1]]
		}
		bad := func(format string, args ...any) {
			line := 1 + strings.Count(source[:at[0]], "\n")
			errs = append(errs, fmt.Errorf("%s:%d: %s", file, line, fmt.Sprintf(format, args...)))
		}
		test, list := strings.TrimPrefix(group(2), "func "), group(1)
		if spec := group(3); spec != "" {
			test, list = spec, group(4)
		}
		numbers := rows.FindStringSubmatch(list)
		switch {
		case test == "":
			bad("the mark does not stand directly above a test")
			continue
		case numbers == nil:
			bad("the rows are %q; write them as // catalogue: row 15, 25", strings.TrimSpace(list))
			continue
		}
		for text := range strings.SplitSeq(numbers[1], ",") {
			n, err := strconv.Atoi(strings.TrimSpace(text))
			row := scenario.Row(n)
			if err != nil || row < 1 || row > scenario.MaxRow {
				bad("row %d is not in the catalogue; must be 1 to %d", n, scenario.MaxRow)
				continue
			}
			shown[row] = append(shown[row], witness{file: file, test: test})
		}
	}
	return errors.Join(errs...)
}
