package scenario

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// maxTimeout is far more than any row needs, and little enough that a slip of the
// pen does not keep a machine busy for hours.
const maxTimeout = Duration(time.Hour)

// Checker reads a file, for one combination of its matrix, and finds what it says
// wrong. Words, bounds and missing fields are what the schema says; the rest each
// value checks itself (Checked).
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
	// raw has numbers and truth values as they were written, varies the texts that
	// had a variable, and typed those of them that must be no texts; by path.
	raw           map[string]string
	varies, typed map[string]bool

	file *File // as far as it was read
	// What the steps so far have done.
	groups  map[Group]*Submit
	marks   []Mark
	done    map[string]bool // what can be done once
	asserts bool
}

func newChecker(f *Format, p *problems, v *variables, line int) *Checker {
	flags := func() map[string]bool { return map[string]bool{} }
	return &Checker{format: f, problems: p, variables: v, lines: map[string]int{"": line}, failed: flags(),
		raw: map[string]string{}, varies: flags(), typed: flags(), file: &File{}, groups: map[Group]*Submit{}, done: flags()}
}

// Bad reports a mistake at a path, unless what stands there could not even be
// read.
func (c *Checker) Bad(at, format string, args ...any) {
	if !c.failed[at] {
		c.problems.add(c.line(at), at, fmt.Sprintf(format, args...))
	}
}

// badLine reports a mistake on a line, after which what is at the path is looked at
// no further.
func (c *Checker) badLine(line int, at, format string, args ...any) {
	c.failed[at] = true
	c.problems.add(line, at, fmt.Sprintf(format, args...))
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
		c.problems.add(c.line(at), at, fmt.Sprintf("needs a target with %s; add it to needs", n))
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

// Word reports a word that is not allowed.
func (c *Checker) Word(at, word string, allowed []string) {
	if !slices.Contains(allowed, word) {
		c.Bad(at, "%s", notAWord(word, allowed))
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

// Check wants a head that reports can show, runners that are started, and something
// that can fail.
func (f File) Check(c *Checker, _ string) {
	if len(f.Steps) > 0 && !c.asserts {
		c.Bad("steps", "cannot fail: no step says what must be so; add an await, expect or never")
	}
	if strings.ContainsAny(f.Name, "\n\r") {
		c.Bad("name", "has more than one line")
	}
	if f.Timeout > maxTimeout {
		c.Bad("timeout", "is %s; must be at most %s", f.Timeout, maxTimeout)
	}
	if len(f.APIServerFlags) > 0 {
		c.Need("apiserverFlags", NeedAPIServer)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Runners)) {
		at := "runners." + name
		switch {
		case slices.Contains([]string{Global, Tasks, Runners}, name):
			c.Bad(at, "a runner cannot be called %s, which is a subject of its own", name)
		case !hostRule.MatchString(name):
			c.Bad(at, "%s cannot be a host name; must be up to 63 small letters, digits and '-'", quote(name))
		}
		r := f.Runners[name]
		if other, ok := f.Runners[r.Machine]; r.Machine != "" && (!ok || other.GPUs == 0 || other.Machine != "") {
			c.Bad(at+".machine", "is %s, which is no runner with gpus and a machine of its own", quote(r.Machine))
		}
		if r.Delayed && !c.done["start "+name] {
			c.Bad(at+".delayed", "is true, but no step starts the runner")
		}
	}
}

// Check wants GPUs where something of them is said.
func (r Runner) Check(c *Checker, at string) {
	if r.GPUs > 0 {
		c.Need(at+".gpus", NeedGPUs)
	}
	c.Needs(at, "profile", r.GPUs > 0, "the runner has no gpus")
	c.Needs(at, "visible", r.GPUs > 0, "the runner has no gpus")
	if r.Machine != "" {
		c.Need(at+".machine", NeedFakeGPUs)
	}
}

// Check wants a map that the API server can have.
func (m Map) Check(c *Checker, at string) {
	c.Needs(at, "absent", m.Absent, "is false; leave it out")
	if m.Absent && !reflect.DeepEqual(m, Map{Absent: true}) {
		c.Bad(at, "is absent and has other fields too")
	}
	for _, key := range slices.Sorted(maps.Keys(m.Data)) {
		if !dataRule.MatchString(key) {
			c.Bad(at+".data."+key, "key %s is not allowed; must be letters, digits, '-', '_' and '.'", quote(key))
		}
		if _, both := m.BinaryData[key]; both {
			c.Bad(at+".binaryData."+key, "is in data too")
		}
	}
}

// Check lets later steps name the group.
func (s Submit) Check(c *Checker, at string) {
	if _, taken := c.groups[Group(s.Group)]; taken {
		c.Bad(at+".group", "%s was submitted before", quote(string(s.Group)))
	}
	c.groups[Group(s.Group)] = &s
	c.Needs(at, "gpuMemory", s.GPUs > 0, "the tasks ask for no gpus")
	c.Needs(at, "waiting", s.Again > 0, "the group is not submitted again")
}
