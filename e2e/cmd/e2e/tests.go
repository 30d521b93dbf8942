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

	"github.com/studioml/studio-go-runner/e2e/catalogue"
)

// A test says which rows it shows in the last line of its doc comment, and a spec
// that is no scenario in its call:
//
//	// catalogue: row 15, 25
//	It("an Indexed Job", rows(52), …
var (
	mark = regexp.MustCompile(`^// catalogue:(?: rows?)?(.*)`)
	test = regexp.MustCompile(`^func ((?:Test|Fuzz)\w+)`)
	spec = regexp.MustCompile(`\bIt\("((?:[^"\\]|\\.)*)",.*\brows\(([^)]*)\)`)
)

// skipped are the directories without tests of ours.
var skipped = []string{".git", "bin", "artifacts", "testdata", "vendor", "node_modules"}

// rowsOfTests returns the tests that show rows, from all _test.go files of the
// repository.
func rowsOfTests(root string) (map[catalogue.Row][]witness, error) {
	shown := map[catalogue.Row][]witness{}
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
func marksIn(file, source string, shown map[catalogue.Row][]witness) error {
	var errs []error
	lines := strings.Split(source+"\n", "\n")
	for i, line := range lines {
		name, list := "", ""
		if found := spec.FindStringSubmatch(line); found != nil {
			name, list = found[1], found[2]
		} else if found := mark.FindStringSubmatch(line); found != nil {
			list = found[1]
			if below := test.FindStringSubmatch(lines[i+1]); below != nil {
				name = below[1]
			}
		} else {
			continue
		}
		if name == "" {
			errs = append(errs, fmt.Errorf("%s:%d: the mark does not stand directly above a test", file, i+1))
			continue
		}
		for text := range strings.SplitSeq(list, ",") {
			text = strings.TrimSpace(text)
			n, err := strconv.Atoi(text)
			row := catalogue.Row(n)
			if err != nil || row < 1 || row > catalogue.Last {
				errs = append(errs, fmt.Errorf("%s:%d: row %s is not in the catalogue; must be 1 to %d",
					file, i+1, text, catalogue.Last))
				continue
			}
			shown[row] = append(shown[row], witness{file: file, test: name})
		}
	}
	return errors.Join(errs...)
}
