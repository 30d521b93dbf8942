package scenario

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// maxTimeout is far more than any row needs, and little enough that a slip of the
// pen does not keep a machine busy for hours.
const maxTimeout = Duration(time.Hour)

// Checker reads a file, for one combination of its matrix, and finds what it says
// wrong. What a type says by itself (words, bounds, references) is checked wherever
// a value of it stands; the rest each value checks itself (Checked).
type Checker struct {
	format   *Format
	problems *problems
	// variables replaces ${…}; nil while the matrix itself is read.
	variables *variables
	// lines has the line of each field and list element that the file gives,
	// by its path, as steps[2].await.a.phase.
	lines map[string]int
	// failed has the paths that could not be read, which need no further check.
	failed map[string]bool

	file *File // as far as it was read
	// What the steps so far have done.
	groups  map[Group]*Submit
	marks   []Mark
	done    map[string]bool // what can be done once
	asserts bool
}

func newChecker(f *Format, p *problems, v *variables, root ast.Node) *Checker {
	return &Checker{format: f, problems: p, variables: v, lines: map[string]int{"": lineOf(root)}, failed: map[string]bool{},
		file: &File{}, groups: map[Group]*Submit{}, done: map[string]bool{}}
}

// Bad reports a mistake at a path, unless what stands there could not even be
// read.
func (c *Checker) Bad(at, format string, args ...any) {
	if !c.failed[at] {
		c.problems.add(c.line(at), at, fmt.Sprintf(format, args...))
	}
}

// line returns the line of a path, or of the nearest path around it.
func (c *Checker) line(at string) int {
	for at != "" {
		if line, ok := c.lines[at]; ok {
			return line
		}
		at = at[:max(0, strings.LastIndexAny(at, ".["))]
	}
	return c.lines[""]
}

// Needs reports a field that is set where another one, that it needs, is not.
func (c *Checker) Needs(at, field string, is bool, why string) {
	if _, given := c.lines[at+"."+field]; given && !is {
		c.Bad(at+"."+field, "is set, but %s", why)
	}
}

// Need reports an ability that the file uses and does not ask for.
func (c *Checker) Need(at string, n Need) {
	if !slices.Contains(c.file.Needs, n) {
		c.Bad(at, "needs a target with %s; add it to needs", n)
	}
}

// Tasks returns those of a group, nil if no step before has submitted it, which
// is reported where the group stands.
func (c *Checker) Tasks(g Group) *Submit { return c.groups[g] }

// Once says whether it is the first time that this is done.
func (c *Checker) Once(what string) bool {
	before := c.done[what]
	c.done[what] = true
	return !before
}

// Asserts says that a step can fail because of what a runner or the API server does.
func (c *Checker) Asserts() { c.asserts = true }

// Timeout is that of the scenario.
func (c *Checker) Timeout() time.Duration { return time.Duration(c.file.Timeout) }

// check looks at a value that was read, with all that is in it. Only what the file
// gives is looked at, so an empty text differs from none.
func (c *Checker) check(v reflect.Value, at string) {
	if w, ok := v.Interface().(words); ok {
		c.Word(at, v.String(), w.Words())
		return
	}
	if (v.Kind() == reflect.Map || v.Kind() == reflect.Slice) && v.Len() == 0 {
		c.Bad(at, "is empty")
	}
	if v.Kind() == reflect.Slice && isScalar(v.Type().Elem()) {
		for i := range v.Len() {
			for j := range i {
				if v.Index(i).Equal(v.Index(j)) {
					c.Bad(fmt.Sprintf("%s[%d]", at, i), "%s stands there twice", quote(fmt.Sprint(v.Index(i))))
					break
				}
			}
		}
	}
	if checked, ok := v.Interface().(Checked); ok {
		checked.Check(c, at)
	}
}

// isScalar says whether values of a type are texts or numbers, of which a list has
// each once.
func isScalar(t reflect.Type) bool { return t.Kind() == reflect.String || t.Kind() == reflect.Int }

// Word reports a word that is not allowed.
func (c *Checker) Word(at, word string, allowed []string) {
	if !slices.Contains(allowed, word) {
		c.Bad(at, "is %s; must be %s%s", quote(word), list(allowed), hint(word, allowed))
	}
}

// Text reports a text of which nothing can be seen.
func (c *Checker) Text(at, text string) {
	if blank(text) {
		c.Bad(at, "is empty")
	}
}

// subject reports a name that neither a runner nor one of the others has.
func (c *Checker) subject(at, name string, others ...string) {
	if _, ok := c.file.Runners[name]; ok || len(c.file.Runners) == 0 || slices.Contains(others, name) {
		return // a file without runners is reported already
	}
	subjects := append(others, slices.Sorted(maps.Keys(c.file.Runners))...)
	c.Bad(at, "%s is not in this file; must be %s%s", quote(name), list(subjects), hint(name, subjects))
}

func join(at, name string) string { return strings.TrimPrefix(at+"."+name, ".") }
