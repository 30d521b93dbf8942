package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/catalogue"
)

// mark is how a test says which rows it shows, in the last line of its doc comment, and
// a spec that is no scenario, in its call:
//
//	// catalogue: row 15, 25
//	It("an Indexed Job", rows(52), …
var mark = regexp.MustCompile(`(?m)^// catalogue:(?: rows?)?(.*)(?:\nfunc ((?:Test|Fuzz)\w+))?|` +
	`\bIt\("((?:[^"\\]|\\.)*)",.*\brows\(([^)]*)\)`)

// markedTests returns the tests of the repository that show rows.
func markedTests() (map[witness]int, error) {
	var errs []error
	shown, root := make(map[witness]int), os.DirFS(".")
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
