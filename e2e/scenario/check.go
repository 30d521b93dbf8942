package scenario

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxTimeout is far more than any row needs, and little enough that a slip of the
// pen does not keep a machine busy for hours.
const maxTimeout = Duration(time.Hour)

// Checker finds what a file that can be read says wrong. What a type says by
// itself (words, bounds, references) is checked wherever a value of it stands;
// the rest each value checks itself (Checked).
type Checker struct {
	*decoder
	file *File

	// What the steps so far have done.
	groups  map[Group]*Submit
	marks   []Mark
	done    map[string]bool // what can be done once
	asserts bool
}

// check reports the mistakes in an expanded file.
func check(d *decoder, f *File) {
	c := &Checker{decoder: d, file: f, groups: map[Group]*Submit{}, done: map[string]bool{}}
	c.check(reflect.ValueOf(f).Elem(), "")
	if len(f.Steps) > 0 && !c.asserts {
		c.Bad("steps", "cannot fail: no step says what must be so; add an await, expect or never")
	}
}

// Bad reports a mistake at a path, unless what stands there could not even be
// read.
func (c *Checker) Bad(at, format string, args ...any) {
	if !c.failed[at] {
		c.problems.addAt(c.line(at), at, fmt.Sprintf(format, args...))
	}
}

// Given tells whether the file has that field.
func (c *Checker) Given(at string) bool {
	_, ok := c.lines[at]
	return ok
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

// SetMark lets later steps refer to a mark.
func (c *Checker) SetMark(at string, m Mark) {
	if !c.Once("mark " + string(m)) {
		c.Bad(at, "%s was marked before", quote(string(m)))
	}
	c.marks = append(c.marks, m)
}

// Asserts says that a step can fail because of what a runner or the API server does.
func (c *Checker) Asserts() { c.asserts = true }

// Timeout is that of the scenario.
func (c *Checker) Timeout() time.Duration { return time.Duration(c.file.Timeout) }

// check looks at a value and at everything in it, in the order of its type's
// fields. Only what the file gives is looked at, so an empty text differs from none.
func (c *Checker) check(v reflect.Value, at string) {
	if v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() {
		return // it could not be read
	}
	if w, ok := v.Interface().(words); ok {
		c.Word(at, v.String(), w.Words())
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range fieldsOf(v.Type()) {
			if below := join(at, f.name); c.Given(below) && !(at == "" && familyFields[f.name]) {
				c.bounds(v.Field(f.index), f, below)
				c.check(v.Field(f.index), below)
			}
		}
	case reflect.Map:
		c.notEmpty(v, at)
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, key := range keys {
			below := join(at, key.String())
			if k, ok := key.Interface().(Checked); ok {
				k.Check(c, below)
			}
			c.check(v.MapIndex(key), below)
		}
	case reflect.Slice:
		c.notEmpty(v, at)
		if isReference(v.Type().Elem()) {
			c.unique(v, at)
		}
		for i := range v.Len() {
			c.check(v.Index(i), fmt.Sprintf("%s[%d]", at, i))
		}
	}
	if checked, ok := v.Interface().(Checked); ok {
		checked.Check(c, at)
	}
}

func (c *Checker) notEmpty(v reflect.Value, at string) {
	if v.Len() == 0 {
		c.Bad(at, "is empty")
	}
}

// bounds checks what the tag of a field says, which the schema says as well.
func (c *Checker) bounds(v reflect.Value, f field, at string) {
	low, hasLow := f.rules["minimum"]
	high, hasHigh := f.rules["maximum"]
	switch {
	case hasLow && hasHigh && (v.Int() < low || v.Int() > high):
		c.Bad(at, "is %d; must be %d to %d", v.Int(), low, high)
	case hasLow && v.Int() < low:
		c.Bad(at, "is %d; must be %d or more", v.Int(), low)
	}
	if _, ok := f.rules["minLength"]; ok && blank(v.String()) {
		c.Bad(at, "is empty")
	}
	if most, ok := f.rules["maxLength"]; ok && int64(len(v.String())) > most {
		c.Bad(at, "has %d characters; must be at most %d", len(v.String()), most)
	}
}

// unique reports what stands twice in a list.
func (c *Checker) unique(v reflect.Value, at string) {
	for i := range v.Len() {
		for j := range i {
			if v.Index(i).Equal(v.Index(j)) {
				c.Bad(fmt.Sprintf("%s[%d]", at, i), "%s stands there twice", quote(fmt.Sprint(v.Index(i))))
				break
			}
		}
	}
}

// isReference says whether values of a type name something, so that a list of
// them has each once.
func isReference(t reflect.Type) bool {
	return t.Kind() != reflect.Struct && (t.Implements(reflect.TypeFor[Checked]()) || t.Implements(reflect.TypeFor[words]()))
}

// Word reports a word that is not allowed.
func (c *Checker) Word(at, word string, allowed []string) {
	if !slices.Contains(allowed, word) {
		c.Bad(at, "is %s; must be %s%s", quote(word), list(allowed), hint(word, allowed))
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

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

// rulesOf reads the bounds in a field's jsonschema tag.
func rulesOf(tag string) map[string]int64 {
	rules := map[string]int64{}
	for part := range strings.SplitSeq(tag, ",") {
		name, text, _ := strings.Cut(part, "=")
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			rules[name] = n
		}
	}
	return rules
}
