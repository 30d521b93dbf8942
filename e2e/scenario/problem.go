package scenario

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/studioml/studio-go-runner/runner/api"
)

// problem is one thing that is wrong with a file.
type problem struct {
	line int // 0 when it is about the file as a whole
	text string
}

// in returns the problem in the form that editors and terminals make a link of.
func (p problem) in(path string) error {
	if p.line == 0 {
		return fmt.Errorf("%s: %s", path, p.text)
	}
	return fmt.Errorf("%s:%d: %s", path, p.line, p.text)
}

// problems are what is wrong with one file. Every combination of a matrix meets the
// same mistakes again, so each is kept once.
type problems map[problem]bool

// add adds a problem with the field at a path, empty for the file. Keys of the file
// are part of a path, so it may hold anything.
func (p problems) add(line int, at, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if at != "" {
		text = printable(at) + ": " + text
	}
	p[problem{line, text}] = true
}

// in joins the problems in the order of the file; nil if there are none.
func (p problems) in(path string) error {
	var errs []error
	for _, one := range slices.SortedFunc(maps.Keys(p), func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.text, b.text))
	}) {
		errs = append(errs, one.in(path))
	}
	return errors.Join(errs...)
}

// quote makes a value from a file fit to be printed.
func quote(value string) string { return api.Excerpt(value) }

// printable escapes what could do something to a terminal.
func printable(text string) string {
	quoted := strconv.Quote(text)
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(quoted[1 : len(quoted)-1])
}

// list writes words as "a, b or c".
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// notAWord says what a word must be.
func notAWord(word string, allowed []string) string {
	return fmt.Sprintf("is %s; must be %s%s", quote(word), list(allowed), api.DidYouMean(word, allowed))
}
