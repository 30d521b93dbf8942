package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// shape says where a document has another form than a task, in the words of those
// who write them; decoders speak of Go's types. Values with a form of their own,
// as durations, speak for themselves.
func shape(v any) error {
	switch v := v.(type) {
	case nil:
		return nil // a document with nothing in it lacks a command, which is reported with the rest
	case map[string]any:
		return errors.Join(shapeOf("", v, reflect.TypeFor[Task]())...)
	default:
		return fmt.Errorf("is %s; must be one task with the fields %s", form(v), strings.Join(fields(reflect.TypeFor[Task]()), ", "))
	}
}

func shapeOf(field string, v any, want reflect.Type) (problems []error) {
	bad := func(allowed string) []error {
		return []error{fmt.Errorf("%s: is %s; must be %s", field, form(v), allowed)}
	}
	if v == nil || reflect.PointerTo(want).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return nil
	}
	switch want.Kind() {
	case reflect.String:
		switch v.(type) {
		case string:
		case []any:
			return bad("one text; what follows the first word goes into args")
		case map[string]any:
			return bad("text")
		default:
			return bad("text; put it into quotes")
		}
	case reflect.Int:
		if n, ok := v.(json.Number); !ok || strings.ContainsAny(n.String(), ".eE") {
			return bad("a whole number")
		}
	case reflect.Slice:
		list, ok := v.([]any)
		if !ok {
			return bad("a list of texts, as [a, b]")
		}
		for i, item := range list {
			problems = append(problems, shapeOf(fmt.Sprintf("%s[%d]", field, i), item, want.Elem())...)
		}
	case reflect.Map:
		object, ok := v.(map[string]any)
		if !ok {
			return bad("names with texts, as {NAME: value}")
		}
		for _, name := range slices.Sorted(maps.Keys(object)) {
			problems = append(problems, shapeOf(field+"."+brief(name), object[name], want.Elem())...)
		}
	case reflect.Struct:
		object, ok := v.(map[string]any)
		if !ok {
			return bad("the fields " + strings.Join(fields(want), ", ") + ", as {" + fields(want)[0] + ": 1}")
		}
		names := fields(want)
		for _, name := range slices.Sorted(maps.Keys(object)) {
			i := slices.Index(names, name)
			if i < 0 {
				at := strings.TrimPrefix(field+"."+brief(name), ".")
				problems = append(problems, fmt.Errorf("unknown field %q%s", at, DidYouMean(name, names)))
				continue
			}
			problems = append(problems, shapeOf(strings.TrimPrefix(field+"."+name, "."), object[name], want.Field(i).Type)...)
		}
	}
	return problems
}

// fields lists the names of a struct's fields in documents, in order.
func fields(of reflect.Type) (names []string) {
	for i := range of.NumField() {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// form shows a value, or says what it is where it is long.
func form(v any) string {
	switch v := v.(type) {
	case []any:
		return "a list"
	case map[string]any:
		return "a set of fields"
	case string:
		return Excerpt(v)
	default:
		return brief(fmt.Sprint(v))
	}
}

// brief cuts a name or a number.
func brief(text string) string {
	if quoted := Excerpt(text); len(quoted) != len(text)+len(`""`) {
		return quoted
	}
	return text
}
