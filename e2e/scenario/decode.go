package scenario

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// decode puts what was read into a Go value, and checks it. What does not fit the
// schema was reported, and is left out.
func (c *Checker) decode(value any, into reflect.Value, at string) {
	mapping, isMapping := value.(map[string]any)
	list, isList := value.([]any)
	switch step, isStep := into.Addr().Interface().(*Step); {
	case value == nil:
	case isMapping && isStep:
		c.step(mapping, step, at)
	case isMapping && into.Kind() == reflect.Struct:
		c.decodeStruct(mapping, into, at)
	case isMapping && into.Kind() == reflect.Map:
		c.decodeMap(mapping, into, at)
	case isList && into.Kind() == reflect.Slice:
		into.Set(reflect.MakeSlice(into.Type(), len(list), len(list)))
		for i, one := range list {
			c.decode(one, into.Index(i), fmt.Sprintf("%s[%d]", at, i))
		}
	case into.Kind() == reflect.Interface: // of a variable
		into.Set(reflect.ValueOf(value))
	default:
		text, err := json.Marshal(value)
		if err == nil {
			err = json.Unmarshal(text, into.Addr().Interface())
		}
		if err != nil && !c.failed[at] {
			c.fail(c.line(at), at, "is %s; %v", quote(fmt.Sprint(value)), err)
		}
	}
	if checked, ok := into.Interface().(Checked); ok && !c.failed[at] {
		checked.Check(c, at)
	}
}

func (c *Checker) decodeMap(given map[string]any, into reflect.Value, at string) {
	into.Set(reflect.MakeMap(into.Type()))
	for _, name := range slices.Sorted(maps.Keys(given)) {
		key, of := reflect.ValueOf(name).Convert(into.Type().Key()), into.Type().Elem()
		if into.Type() == reflect.TypeFor[Condition]() {
			of = c.format.fact(name).Type
		}
		if k, ok := key.Interface().(Checked); ok {
			k.Check(c, join(at, name))
		}
		element := reflect.New(of).Elem()
		c.decode(given[name], element, join(at, name))
		into.SetMapIndex(key, element)
	}
}

// decodeStruct reads fields in the order of the type, so that checks can rely on the
// fields before. It fills in defaults, and does what the tags say: a field that is set
// may need an ability of the target, or has to stand with another one.
func (c *Checker) decodeStruct(given map[string]any, into reflect.Value, at string) {
	for i, field := range reflect.VisibleFields(into.Type()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		value, set := given[name]
		below := join(at, name)
		if _, standard, is := strings.Cut(field.Tag.Get("jsonschema"), "default="); is && !set {
			_ = yaml.Unmarshal([]byte(standard), &value)
		}
		if value == nil {
			continue
		}
		c.decode(value, into.Field(i), below)
		if need := Need(field.Tag.Get("need")); need != "" && !into.Field(i).IsZero() {
			c.Need(below, need)
		}
		other := field.Tag.Get("with")
		named := func(field string) bool { return strings.EqualFold(field, other) }
		if set && other != "" && into.FieldByNameFunc(named).IsZero() {
			c.Bad(below, "means nothing without %s; set that, too", other)
		}
	}
}

// step reads a mapping with one key, the verb, and checks that it can be done.
func (c *Checker) step(given map[string]any, into *Step, at string) {
	into.Line = c.line(at)
	for _, v := range c.format.Verbs {
		value, does := given[v.Name]
		if !does {
			continue
		}
		below, decoded := join(at, v.Name), reflect.New(v.Type).Elem()
		if v.Need != "" {
			c.Need(below, v.Need)
		}
		c.decode(value, decoded, below)
		into.Verb, into.Value = v.Name, decoded.Interface()
	}
}
