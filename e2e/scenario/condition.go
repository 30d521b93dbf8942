package scenario

import (
	"cmp"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Conditions are what must be so at the same time, by subject.
type Conditions map[string]Condition

// Condition is what a subject must show, by the names of facts. A value has the
// type of its fact.
type Condition map[string]any

// Fact is one thing that a condition can ask for.
type Fact struct {
	Name string
	// Doc is a sentence for editors.
	Doc string
	// Of says whether runners, tasks or both have it.
	Of Subjects
	// Type of the values: a text, a whole number, a truth value, a Duration or a
	// Growth.
	Type reflect.Type
	// Words are the texts that it can be; without any, the text in a file is a
	// part of it.
	Words []string
	// Low and High are the bounds of a whole number; no High means none.
	Low, High int
	// Lasting facts can be looked up in a record; the others only now.
	Lasting bool
}

// Subjects is a set of kinds of subjects.
type Subjects int

// The kinds.
const (
	OfRunners Subjects = 1 << iota
	OfTasks
)

// Growth bounds how much more of something there may be than at a mark.
type Growth struct {
	// Since is the mark.
	Since Mark `json:"since"`
	// Most is how many more there may be.
	Most int `json:"most" jsonschema:"minimum=0"`
}

func (f *Format) fact(name string) (Fact, bool) {
	i := slices.IndexFunc(f.Facts, func(fact Fact) bool { return fact.Name == name })
	if i < 0 {
		return Fact{}, false
	}
	return f.Facts[i], true
}

// factNames are the names of all facts, or of those of some subjects.
func (f *Format) factNames(of Subjects) []string {
	var names []string
	for _, fact := range f.Facts {
		if fact.Of&of != 0 {
			names = append(names, fact.Name)
		}
	}
	return names
}

// decodeCondition reads a mapping from names of facts to values.
func (d *decoder) decodeCondition(node ast.Node, into *Condition, at string) {
	*into = Condition{}
	d.entries(node, at, func(key string, value ast.Node, below string) {
		fact, known := d.format.fact(key)
		if !known {
			d.badLine(d.lines[below], at, "unknown field %s%s", quote(key), hint(key, d.format.factNames(OfRunners|OfTasks)))
			return
		}
		decoded := reflect.New(fact.Type)
		d.decode(value, decoded.Elem(), below)
		(*into)[key] = decoded.Elem().Interface()
	})
}

// Check wants subjects that there are, with facts that they have.
func (all Conditions) Check(c *Checker, at string) {
	for _, subject := range slices.Sorted(maps.Keys(all)) {
		at, of := at+"."+subject, OfRunners
		switch group, isGroup := strings.CutPrefix(subject, Tasks+"/"); {
		case isGroup:
			Group(group).Check(c, at)
			of = OfTasks
		case subject == Tasks:
			of = OfTasks
		case subject == Runners:
		default:
			for name := range strings.SplitSeq(subject, "+") {
				c.subject(at, name, Tasks, Tasks+"/<group>", Runners)
			}
		}
		together := subject == Runners || strings.Contains(subject, "+")
		for _, name := range slices.Sorted(maps.Keys(all[subject])) {
			c.fact(at+"."+name, name, all[subject][name], of, together)
		}
	}
}

func (c *Checker) fact(at, name string, value any, of Subjects, together bool) {
	fact, _ := c.format.fact(name)
	switch {
	case fact.Of&of == 0 && of == OfTasks:
		c.Bad(at, "is of runners; tasks have %s", list(c.format.factNames(OfTasks)))
	case fact.Of&of == 0:
		c.Bad(at, "is of tasks; write it below the subject %s", Tasks)
	}
	if _, isNumber := value.(int); together && !isNumber {
		c.Bad(at, "cannot be added up; name one runner")
	}
	switch v := value.(type) {
	case string:
		if fact.Words != nil {
			c.Word(at, v, fact.Words)
		} else if blank(v) {
			c.Bad(at, "is empty")
		}
	case int:
		if high := cmp.Or(fact.High, math.MaxInt32); v < fact.Low || v > high {
			c.Bad(at, "is %d; must be %d to %d", v, fact.Low, high)
		}
	}
}
