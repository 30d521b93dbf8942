package scenario

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// decode puts what was read into a Go value, and checks it. What does not fit the
// schema was reported, and is left out.
func (c *Checker) decode(value any, into reflect.Value, at string) {
	switch v := into.Addr().Interface().(type) {
	case *Step:
		c.step(value, v, at)
	case *Condition:
		c.condition(value, v, at)
	case encoding.TextUnmarshaler:
		text, isText := value.(string)
		if _, isMapping := value.(map[string]any); isMapping && into.Kind() == reflect.Struct {
			c.decodeKind(value, into, at)
		} else if isText {
			if err := v.UnmarshalText([]byte(text)); err != nil {
				c.badLine(c.line(at), at, "is %s; must be %v", quote(text), err)
			}
		}
	default:
		c.decodeKind(value, into, at)
	}
	if checked, ok := into.Interface().(Checked); ok && !c.at(at).failed {
		checked.Check(c, at)
	}
}

func (c *Checker) decodeKind(value any, into reflect.Value, at string) {
	kind := into.Kind()
	switch v := value.(type) {
	case map[string]any:
		if kind == reflect.Struct {
			c.decodeStruct(v, into, at)
		} else if kind == reflect.Map {
			c.decodeMap(v, into, at)
		}
	case []any:
		for i := 0; i < len(v) && kind == reflect.Slice; i++ {
			element := reflect.New(into.Type().Elem()).Elem()
			c.decode(v[i], element, fmt.Sprintf("%s[%d]", at, i))
			into.Set(reflect.Append(into, element))
		}
	case string:
		if kind == reflect.String {
			into.SetString(v)
		}
	case int:
		if kind == reflect.Int {
			into.SetInt(int64(v))
		}
	case bool:
		if kind == reflect.Bool {
			into.SetBool(v)
		}
	}
}

func (c *Checker) decodeMap(given map[string]any, into reflect.Value, at string) {
	into.Set(reflect.MakeMap(into.Type()))
	for _, name := range slices.Sorted(maps.Keys(given)) {
		key, element := reflect.ValueOf(name).Convert(into.Type().Key()), reflect.New(into.Type().Elem()).Elem()
		if k, ok := key.Interface().(Checked); ok {
			k.Check(c, join(at, name))
		}
		c.decode(given[name], element, join(at, name))
		into.SetMapIndex(key, element)
	}
}

// decodeStruct reads fields in the order of the type, so that checks can rely on the
// fields before. It fills in defaults.
func (c *Checker) decodeStruct(given map[string]any, into reflect.Value, at string) {
	for i, field := range reflect.VisibleFields(into.Type()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		_, standard, _ := strings.Cut(field.Tag.Get("jsonschema"), "default=")
		n, err := strconv.Atoi(standard)
		switch value, ok := given[name]; {
		case ok:
			c.decode(value, into.Field(i), join(at, name))
		case err == nil:
			c.decode(n, into.Field(i), join(at, name))
		case standard != "":
			c.decode(standard, into.Field(i), join(at, name))
		}
	}
}

// step reads a mapping with one key, the verb, and checks that it can be done.
func (c *Checker) step(value any, into *Step, at string) {
	into.Line = c.at(at).line
	given, _ := value.(map[string]any)
	for _, v := range c.format.Verbs {
		value, does := given[v.Name]
		if !does {
			continue
		}
		below, decoded := join(at, v.Name), reflect.New(v.Type).Elem()
		if v.Need != "" {
			c.Need(below, v.Need)
		}
		c.Asserts = c.Asserts || v.Asserts
		c.decode(value, decoded, below)
		into.Verb, into.Value = v.Name, decoded.Interface()
	}
}

func (c *Checker) condition(value any, into *Condition, at string) {
	*into = Condition{}
	given, _ := value.(map[string]any)
	for _, fact := range c.format.Facts {
		if value, asked := given[fact.Name]; asked {
			decoded := reflect.New(fact.Type).Elem()
			c.decode(value, decoded, join(at, fact.Name))
			(*into)[fact.Name] = decoded.Interface()
		}
	}
}
