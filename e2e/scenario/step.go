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

func (f *Format) verb(name string) (Verb, bool) {
	i := slices.IndexFunc(f.Verbs, func(v Verb) bool { return v.Name == name })
	if i < 0 {
		return Verb{}, false
	}
	return f.Verbs[i], true
}

func (f *Format) verbNames() []string {
	var names []string
	for _, v := range f.Verbs {
		names = append(names, v.Name)
	}
	return names
}

// decodeStep reads a mapping with one key, the verb.
func (d *decoder) decodeStep(node ast.Node, into *Step, at string) {
	into.Line = d.lines[at]
	var does []string
	ok := d.entries(node, at, func(key string, value ast.Node, below string) {
		verb, known := d.format.verb(key)
		if !known {
			d.badLine(d.lines[below], at, "unknown field %s%s", quote(key), hint(key, d.format.verbNames()))
			return
		}
		does = append(does, key)
		decoded := reflect.New(verb.Type)
		d.decode(value, decoded.Elem(), below)
		into.Verb, into.Value = key, decoded.Elem().Interface()
	})
	switch {
	case !ok || d.failed[at]:
	case len(does) == 0:
		d.bad(node, at, "does nothing; must have one of %s", list(d.format.verbNames()))
	case len(does) > 1:
		d.bad(node, at, "does more than one thing: %s; make a step of each", list(does))
	}
}

// Check wants what the verb needs.
func (s Step) Check(c *Checker, at string) {
	verb, ok := c.format.verb(s.Verb)
	if !ok {
		return // which is reported already
	}
	at += "." + s.Verb
	if verb.Need != "" {
		c.Need(at, verb.Need)
	}
	c.asserts = c.asserts || verb.Asserts
	c.check(reflect.ValueOf(s.Value), at)
}
