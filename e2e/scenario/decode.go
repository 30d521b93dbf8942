package scenario

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// decode reads a node into a Go value, and checks it; at is the node's path. It does
// not use the YAML library's own decoder because that one ends at the first mistake,
// takes numbers for texts, and does not tell on which line a field stands.
func (c *Checker) decode(node ast.Node, into reflect.Value, at string) {
	switch v := into.Addr().Interface().(type) {
	case *Step:
		c.step(node, v, at)
	case *Condition:
		c.condition(node, v, at)
	case *Matrix:
		c.matrix(node, v, at)
	case textual:
		if _, isMapping := node.(ast.MapNode); isMapping && into.Kind() == reflect.Struct {
			c.decodeStruct(node, into, at)
		} else {
			c.decodeText(node, v, at)
		}
	default:
		c.decodeKind(node, into, at)
	}
	if !c.failed[at] {
		c.check(into, at)
	}
}

func (c *Checker) decodeKind(node ast.Node, into reflect.Value, at string) {
	switch into.Kind() {
	case reflect.Struct:
		c.decodeStruct(node, into, at)
	case reflect.Map:
		into.Set(reflect.MakeMap(into.Type()))
		c.entries(node, at, func(name string, value ast.Node, at string) {
			key, element := reflect.ValueOf(name).Convert(into.Type().Key()), reflect.New(into.Type().Elem()).Elem()
			if k, ok := key.Interface().(Checked); ok {
				k.Check(c, at)
			}
			c.decode(value, element, at)
			into.SetMapIndex(key, element)
		})
	case reflect.Slice:
		c.elements(node, at, func(value ast.Node, at string) {
			element := reflect.New(into.Type().Elem()).Elem()
			c.decode(value, element, at)
			into.Set(reflect.Append(into, element))
		})
	case reflect.String:
		if text, ok := c.text(node, at, "text"); ok {
			into.SetString(text)
		}
	case reflect.Int:
		c.decodeScalar(node, at, "a whole number", func(text string) bool {
			n, err := strconv.Atoi(text)
			into.SetInt(int64(n))
			return err == nil
		})
	case reflect.Bool:
		c.decodeScalar(node, at, "true or false", func(text string) bool {
			into.SetBool(text == "true")
			return text == "true" || text == "false"
		})
	default:
		panic(fmt.Sprintf("scenario: no way to read a %s", into.Type()))
	}
}

// textual is a type that files write as a text, at least for short. Its error
// says what the text must be.
type textual interface{ UnmarshalText(text []byte) error }

func (c *Checker) decodeText(node ast.Node, into textual, at string) {
	expected := `text for STATE, "absent", "keyless" or a mapping`
	if _, isMap := into.(*Map); !isMap {
		expected = into.UnmarshalText(nil).Error()
	}
	text, ok := c.text(node, at, expected)
	if !ok {
		return
	}
	if err := into.UnmarshalText([]byte(text)); err != nil {
		c.bad(node, at, "is %s; must be %v", quote(text), err)
	}
}

// decodeStruct reads a mapping whose keys are the fields of a struct, in the order
// of the type, so that checks can rely on the fields before. It fills in defaults.
func (c *Checker) decodeStruct(node ast.Node, into reflect.Value, at string) {
	fields := fieldsOf(into.Type())
	given := map[string]ast.Node{}
	ok := c.entries(node, at, func(key string, value ast.Node, below string) {
		if !slices.ContainsFunc(fields, func(f field) bool { return f.name == key }) {
			c.unknown(at, below, key, fieldNames(fields))
			return
		}
		given[key] = value
	})
	for _, f := range fields {
		value, v, below := given[f.name], into.Field(f.index), join(at, f.name)
		switch {
		case at == "" && familyFields[f.name]: // was read before, and is no part of a single scenario
		case value != nil:
			if c.decode(value, v, below); !c.failed[below] {
				c.bounds(v, f, below)
			}
		case ok && f.required:
			c.bad(node, at, "field %s is missing", f.name)
		case f.standard != "":
			f.fill(v)
		}
	}
}

func (c *Checker) unknown(at, below, key string, known []string) {
	c.badLine(c.lines[below], at, "unknown field %s%s", quote(key), hint(key, known))
}

// entries calls each for every key and value of a mapping. Only the keys that
// are given are seen, so an empty text differs from none.
func (c *Checker) entries(node ast.Node, at string, each func(key string, value ast.Node, at string)) bool {
	mapping, ok := node.(ast.MapNode)
	if !ok {
		c.bad(node, at, "is %s; must be a mapping", c.kind(node))
		return false
	}
	first := map[string]int{}
	for iter := mapping.MapRange(); iter.Next(); {
		keyNode, line := iter.Key(), lineOf(iter.Key())
		plain, ok := keyNode.(*ast.StringNode)
		if !ok {
			c.badLine(line, at, "key %s is not a plain text; put it in quotes", quote(keyNode.String()))
			continue
		}
		key, _ := c.replace(line, at, plain.Value)
		below := join(at, key)
		if before, twice := first[key]; twice {
			c.badLine(line, at, "key %s stands here a second time, first on line %d", quote(key), before)
			continue
		}
		first[key], c.lines[below] = line, line
		each(key, iter.Value(), below)
	}
	return true
}

// elements calls each for every element of a list.
func (c *Checker) elements(node ast.Node, at string, each func(value ast.Node, at string)) {
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		c.bad(node, at, "is %s; must be a list", c.kind(node))
		return
	}
	for i, value := range sequence.Values {
		below := fmt.Sprintf("%s[%d]", at, i)
		c.lines[below] = lineOf(value)
		each(value, below)
	}
}

// decodeScalar reads a number or a truth value. A text with a ${…} in it may become
// one, which has no other way to vary.
func (c *Checker) decodeScalar(node ast.Node, at, expected string, parse func(text string) bool) {
	raw, ok := plainText(node)
	switch {
	case ok && strings.Contains(raw, "${"):
		if raw, ok = c.replace(lineOf(node), at, raw); !ok {
			return
		}
	case ok:
		ok = false
	default:
		raw, ok = anyScalar(node)
	}
	if !ok || !parse(raw) {
		c.bad(node, at, "is %s; must be %s", c.kind(node), expected)
	}
}

// text returns the text of a node. Numbers and the like are refused: whether
// 010 or off is a text is a question that quotes answer.
func (c *Checker) text(node ast.Node, at, expected string) (string, bool) {
	text, ok := plainText(node)
	raw, isScalar := anyScalar(node)
	switch {
	case ok:
	case isScalar && c.variables == nil:
		text = raw // in the matrix values are texts, whatever they look like
	case isScalar && strings.Contains(expected, "text"):
		c.bad(node, at, "is %s; must be %s; for text write %q", c.kind(node), expected, raw)
		return "", false
	default:
		c.bad(node, at, "is %s; must be %s", c.kind(node), expected)
		return "", false
	}
	return c.replace(lineOf(node), at, text)
}

// replace puts values in the place of all ${…} in a text.
func (c *Checker) replace(line int, at, text string) (string, bool) {
	if c.variables == nil {
		if strings.Contains(text, "${") {
			c.badLine(line, at, "is %s, but a matrix cannot use variables", quote(text))
			return "", false
		}
		return text, true
	}
	replaced, err := c.variables.replace(text, at == "name")
	if err != nil {
		c.badLine(line, at, "%v", err)
		return "", false
	}
	return replaced, true
}

func (c *Checker) bad(node ast.Node, at, format string, args ...any) {
	c.badLine(lineOf(node), at, format, args...)
}

// badLine reports a mistake on a line, after which what is at the path is looked at
// no further.
func (c *Checker) badLine(line int, at, format string, args ...any) {
	c.failed[at] = true
	c.problems.add(line, at, fmt.Sprintf(format, args...))
}
