package scenario

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// field is one field of a struct as it stands in a file.
type field struct {
	name     string
	index    int
	required bool
	rules    map[string]int64 // bounds by name, as the schema has them
	standard string           // the default
}

// fieldsOf lists the fields of a struct that a file can have.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name == "-" || name == "" {
			continue
		}
		tag := t.Field(i).Tag.Get("jsonschema")
		_, standard, _ := strings.Cut(tag, "default=")
		fields = append(fields, field{name, i, options != "omitempty", rulesOf(tag), standard})
	}
	return fields
}

// fill sets a field to its default.
func (f field) fill(v reflect.Value) {
	switch into := v.Addr().Interface().(type) {
	case textual:
		if err := into.UnmarshalText([]byte(f.standard)); err != nil {
			panic(fmt.Sprintf("scenario: default of %s: %v", f.name, err))
		}
	case *int:
		*into = int(f.rules["default"])
	default:
		v.SetString(f.standard)
	}
}

func fieldNames(fields []field) (all []string) {
	for _, f := range fields {
		all = append(all, f.name)
	}
	return all
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
