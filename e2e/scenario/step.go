package scenario

import (
	"iter"
	"reflect"
	"slices"

	"github.com/goccy/go-yaml/ast"
)

// Format is the format of scenario files with everything that their steps can do
// and that their conditions can ask for.
type Format struct {
	Verbs []Verb
	Facts []Fact
	// Sources are the directories whose comments describe the types, from the
	// root of the repository; for Schema only.
	Sources []string
}

// Verb is one thing that a step can do. Its values are decoded strictly, by
// their fields' json tags.
type Verb struct {
	Name string
	// Doc is a sentence or two for editors.
	Doc string
	// Need is what a target must be able to do, empty for nothing.
	Need Need
	// Asserts says that such a step can fail because of what a runner does.
	Asserts bool
	// Type of what stands behind the verb.
	Type reflect.Type
	// Words are the texts that it can be, if they are few.
	Words []string
}

// Step is one thing that is done or waited for.
type Step struct {
	Line int // where it stands in its file
	Verb string
	// Value is what stands behind the verb, of the verb's type.
	Value any
}

// Checked is a value that finds out itself what its type does not say.
type Checked interface{ Check(c *Checker, at string) }

// Nested is a verb that has steps of its own.
type Nested interface{ Nested() []Step }

// Actions are the values of one type that steps have, nested ones too.
func Actions[A any](steps []Step) iter.Seq[A] {
	return func(yield func(A) bool) { actions(steps, yield) }
}

func actions[A any](steps []Step, yield func(A) bool) bool {
	for _, s := range steps {
		if a, ok := s.Value.(A); ok && !yield(a) {
			return false
		}
		if n, ok := s.Value.(Nested); ok && !actions(n.Nested(), yield) {
			return false
		}
	}
	return true
}

func (f *Format) verbNames() (names []string) {
	for _, v := range f.Verbs {
		names = append(names, v.Name)
	}
	return names
}

// step reads a mapping with one key, the verb, and checks that it can be done.
func (c *Checker) step(node ast.Node, into *Step, at string) {
	into.Line = c.lines[at]
	var does []string
	ok := c.entries(node, at, func(key string, value ast.Node, below string) {
		i := slices.IndexFunc(c.format.Verbs, func(v Verb) bool { return v.Name == key })
		if i < 0 {
			c.unknown(at, below, key, c.format.verbNames())
			return
		}
		verb := c.format.Verbs[i]
		does = append(does, key)
		if verb.Need != "" {
			c.Need(below, verb.Need)
		}
		c.asserts = c.asserts || verb.Asserts
		decoded := reflect.New(verb.Type).Elem()
		if c.decode(value, decoded, below); verb.Words != nil && !c.failed[below] {
			c.Word(below, decoded.String(), verb.Words)
		}
		into.Verb, into.Value = key, decoded.Interface()
	})
	switch {
	case !ok || c.failed[at]:
	case len(does) == 0:
		c.bad(node, at, "does nothing; must have one of %s", list(c.format.verbNames()))
	case len(does) > 1:
		c.bad(node, at, "does more than one thing: %s; make a step of each", list(does))
	}
}
