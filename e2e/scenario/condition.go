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

// condition reads a mapping from names of facts to values.
func (c *Checker) condition(node ast.Node, into *Condition, at string) {
	*into = Condition{}
	c.entries(node, at, func(key string, value ast.Node, below string) {
		fact := c.format.fact(key)
		if fact == nil {
			c.unknown(at, below, key, c.format.factNames(OfRunners|OfTasks))
			return
		}
		decoded := reflect.New(fact.Type).Elem()
		if c.decode(value, decoded, below); !c.failed[below] {
			c.fact(below, fact, decoded)
		}
		(*into)[key] = decoded.Interface()
	})
}

func (f *Format) fact(name string) *Fact {
	for i := range f.Facts {
		if f.Facts[i].Name == name {
			return &f.Facts[i]
		}
	}
	return nil
}

// fact checks what its row says.
func (c *Checker) fact(at string, f *Fact, value reflect.Value) {
	switch {
	case f.Words != nil:
		c.Word(at, value.String(), f.Words)
	case value.Kind() == reflect.String:
		c.Text(at, value.String())
	case value.Kind() == reflect.Int:
		if n, high := int(value.Int()), cmp.Or(f.High, math.MaxInt32); n < f.Low || n > high {
			c.Bad(at, "is %d; must be %d to %d", n, f.Low, high)
		}
	}
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
			fact, at := c.format.fact(name), at+"."+name
			switch {
			case fact.Of&of == 0 && of == OfTasks:
				c.Bad(at, "is of runners; tasks have %s", list(c.format.factNames(OfTasks)))
			case fact.Of&of == 0:
				c.Bad(at, "is of tasks; write it below the subject %s", Tasks)
			}
			if together && fact.Type.Kind() != reflect.Int {
				c.Bad(at, "cannot be added up; name one runner")
			}
		}
	}
}
