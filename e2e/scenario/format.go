package scenario

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Format is the format of scenario files with everything that their steps can do
// and that their conditions can ask for.
type Format struct {
	Verbs, Facts []Term

	mu       sync.Mutex           // guards what follows
	compiler *jsonschema.Compiler // that has the schema; see compile
}

// Term is a verb, which is one thing that a step can do, or a fact, which is one that a
// condition can ask for.
type Term struct {
	Name string
	// Doc is a sentence or two for editors.
	Doc string
	// Type of what stands behind it; behind a fact it is a text, a whole number, a truth
	// value or a Duration. A text that is none of a few words is a part of what is so.
	Type reflect.Type
	// Rules are words and bounds of that, written like a field's jsonschema tag.
	Rules string
	// Need is what a target must be able to do for a verb, empty for nothing.
	Need Need
	// Of says whether runners, tasks or both have a fact.
	Of Subjects
}

// Step is one thing that is done or waited for.
type Step struct {
	Line int    `json:"-"` // where it stands in its file
	Verb string `json:"-"`
	// Value is what stands behind the verb, of the verb's type.
	Value any `json:"-"`
}

// Checked is a value that finds out itself what the schema does not say.
type Checked interface{ Check(c *Checker, at string) }

// Actions are the values of one type that steps have.
func Actions[A any](steps []Step) (all []A) {
	for _, s := range steps {
		if a, ok := s.Value.(A); ok {
			all = append(all, a)
		}
	}
	return all
}

// Conditions are what must be so at the same time, by subject.
type Conditions map[string]Condition

// Condition is what a subject must show, by the names of facts. A value has the
// type of its fact.
type Condition map[string]any

// Facts stands for Condition in the schema: what a subject must show.
type Facts struct{}

// JSONSchemaAlias has the schema name the facts.
func (Condition) JSONSchemaAlias() any { return Facts{} }

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

// Seen is the rule of a text of which something can be seen.
const Seen = `pattern=\S`

// OneOf is the rule of a text that is one of a few words.
func OneOf[T ~string](words ...T) string {
	return "enum=" + strings.Join(Words(words...), ",enum=")
}

// fields are those that a step or a condition has beside those of its Go type.
func (f *Format) fields(t reflect.Type) (all []reflect.StructField) {
	terms := map[reflect.Type][]Term{reflect.TypeFor[Step](): f.Verbs, reflect.TypeFor[Facts](): f.Facts}
	for _, one := range terms[t] {
		tag := fmt.Sprintf(`json:"%s,omitempty" jsonschema:%q jsonschema_description:%q`, one.Name, one.Rules, one.Doc)
		all = append(all, reflect.StructField{Name: one.Name, Type: one.Type, Tag: reflect.StructTag(tag)})
	}
	return all
}

// fact is the one with that name; the schema knows no other.
func (f *Format) fact(name string) Term {
	return f.Facts[slices.IndexFunc(f.Facts, func(fact Term) bool { return fact.Name == name })]
}

// Check wants subjects that there are, with facts that they have.
func (all Conditions) Check(c *Checker, at string) {
	c.Asserts = true
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
			names, others := strings.Split(subject, "+"), []string{Tasks, Tasks + "/<group>", Runners}
			if len(names) > 1 {
				others = nil // only runners are added up
			}
			for i, name := range names {
				if c.subject(at, name, others...); slices.Contains(names[:i], name) {
					c.Bad(at, "names %s twice; it would be counted twice", quote(name))
				}
			}
		}
		together := subject == Runners || strings.Contains(subject, "+")
		for _, name := range slices.Sorted(maps.Keys(all[subject])) {
			fact, at := c.format.fact(name), at+"."+name
			switch {
			case fact.Of&of == 0 && of == OfTasks:
				c.Bad(at, "is of runners; write it below one of them")
			case fact.Of&of == 0:
				c.Bad(at, "is of tasks; write it below the subject %s", Tasks)
			}
			if together && fact.Type.Kind() != reflect.Int {
				c.Bad(at, "cannot be added up; name one runner")
			}
		}
	}
}
