package scenario

import (
	"cmp"
	"maps"
	"slices"
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

	// What is known by path, as steps[2].await.a.phase.
	places map[string]*token.Position // where it stands; nil if the file does not have it
	failed map[string]bool            // it was said to be wrong, and needs no further check

	// File is as much of it as was read.
	File *File
	// What the steps so far have done.
	Groups  map[Group]*Submit // that were submitted
	done    map[string]bool   // what can be done once
	Asserts bool              // something can fail because of what a runner or the API server does
}

func newChecker(f *Format, p problems, values Combination, into *File) *Checker {
	return &Checker{format: f, problems: p, values: values, File: into, Groups: map[Group]*Submit{},
		places: map[string]*token.Position{}, failed: map[string]bool{}, done: map[string]bool{}}
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
