package scenario

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/token"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Checker reads a file, for one combination of its matrix, and finds what it says
// wrong. Words, bounds and missing fields are what the schema says; the rest each
// value checks itself (Checked).
type Checker struct {
	format   *Format
	problems problems
	// values replace ${…}: those of the matrix by name, and those of predictions by
	// name.part. They are nil while the matrix itself is read.
	values Combination

	used map[string]bool // the variables that more than the words for people depends on

	// What is known by path, as steps[2].await.a.phase.
	places map[string]*token.Position // where it stands; nil if the file does not have it
	failed map[string]bool            // it was said to be wrong, and needs no further check

	// File is as much of it as was read.
	File *File
	// What the steps so far have done.
	Groups  map[Group]*Submit // that were submitted
	marks   []string          // that were set
	done    map[string]bool   // what can be done once
	Asserts bool              // something can fail because of what a runner or the API server does
}

func newChecker(f *Format, p problems, values Combination, into *File) *Checker {
	return &Checker{format: f, problems: p, values: values, File: into, Groups: map[Group]*Submit{},
		used: map[string]bool{}, places: map[string]*token.Position{}, failed: map[string]bool{}, done: map[string]bool{}}
}

// Bad reports a mistake at a path, unless what stands there is known to be wrong.
func (c *Checker) Bad(at, format string, args ...any) {
	if !c.failed[at] {
		c.problems.add(c.line(at), at, format, args...)
	}
}

// fail reports a mistake on a line, after which what is at the path is looked at
// no further.
func (c *Checker) fail(line int, at, format string, args ...any) {
	c.failed[at] = true
	c.problems.add(line, at, format, args...)
}

// line returns the line of a path, or of the nearest path around it.
func (c *Checker) line(path string) int {
	for path != "" && c.places[path] == nil {
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return cmp.Or(c.places[path], &token.Position{Line: 1}).Line
}

// Need reports an ability that the file uses and does not ask for.
func (c *Checker) Need(at string, n Need) {
	if !slices.Contains(c.File.Needs, n) {
		c.problems.add(c.line(at), at, "needs a target with %s; add it to needs", n)
	}
}

// Once says whether it is the first time that this is done.
func (c *Checker) Once(what string) bool {
	before := c.done[what]
	c.done[what] = true
	return !before
}

// subject reports a name that neither a runner nor one of the others has.
func (c *Checker) subject(at, name string, others ...string) {
	if _, ok := c.File.Runners[name]; ok || len(c.File.Runners) == 0 || slices.Contains(others, name) {
		return // a file without runners is reported already
	}
	subjects := append(others, slices.Sorted(maps.Keys(c.File.Runners))...)
	hint := api.DidYouMean(name, subjects)
	c.problems.add(c.line(at), at, "%s is not in this file; must be %s%s", quote(name), list(subjects), hint)
}

func join(at, name string) string { return strings.TrimPrefix(at+"."+name, ".") }

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
