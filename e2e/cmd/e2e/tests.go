package main

import (
	"bytes"
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

// A test says which rows it shows in a line of its doc comment, and a spec that
// is no scenario in the line of its call:
//
//	// catalogue: row 15, 25
//	It("an Indexed Job", rows(52), …
var (
	mark  = regexp.MustCompile(`(?m)^// catalogue:.*$`)
	above = regexp.MustCompile(`(?m)^// catalogue: rows? ([\d, ]+)\n(?://.*\n)*func ((?:Test|Fuzz)\w+)\(`)
	spec  = regexp.MustCompile(`(?m)^\s*It\("((?:[^"\\]|\\.)*)".*, rows\(([\d, ]+)\)`)
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

// marksIn adds the marked tests of one file. A mark that stands above nothing is an
// error, or the row would silently not be shown.
func marksIn(file string, source []byte, shown map[int][]witness) error {
	var errs []error
	add := func(at int, rows []byte, test string) {
		for text := range strings.FieldsFuncSeq(string(rows), func(r rune) bool { return r == ',' || r == ' ' }) {
			row, err := strconv.Atoi(text)
			if err != nil || row < 1 || row > scenario.MaxRow {
				errs = append(errs, fmt.Errorf("%s:%d: row %s is not in the catalogue, which has 1 to %d", file, lineOf(source, at), text, scenario.MaxRow))
				continue
			}
			shown[row] = append(shown[row], witness{file: file, test: test})
		}
	}
	for _, m := range spec.FindAllSubmatchIndex(source, -1) {
		add(m[2], source[m[4]:m[5]], string(source[m[2]:m[3]]))
	}
	right := map[int]bool{} // by where they begin
	for _, m := range above.FindAllSubmatchIndex(source, -1) {
		right[m[0]] = true
		add(m[0], source[m[2]:m[3]], string(source[m[4]:m[5]]))
	}
	for _, m := range mark.FindAllIndex(source, -1) {
		if !right[m[0]] {
			errs = append(errs, fmt.Errorf("%s:%d: the mark is %q; it must be as // catalogue: row 15, 25 and stand directly above a test",
				file, lineOf(source, m[0]), source[m[0]:m[1]]))
		}
	}
	return errors.Join(errs...)
}

// lineOf is the line of a place in a file.
func lineOf(source []byte, at int) int { return 1 + bytes.Count(source[:at], []byte("\n")) }
