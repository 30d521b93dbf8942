package scenario

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/studioml/studio-go-runner/runner/api"
)

// quote makes a value from a file fit to be printed.
func quote(value string) string { return api.Excerpt(value) }

// decoder turns the syntax tree of a file into a File. It does not use the
// YAML library's own decoder because that one ends at the first mistake, takes
// numbers for texts, and does not tell on which line a field stands.
type decoder struct {
	format   *Format
	problems *problems
	// variables replaces ${…}; nil while the matrix itself is read.
	variables *variables
	// lines has the line of each field and list element that the file gives,
	// by its path, as steps[2].await.a.phase.
	lines map[string]int
	// failed has the paths that could not be read, which need no further check.
	failed map[string]bool
}

func newDecoder(f *Format, p *problems, v *variables, root ast.Node) *decoder {
	return &decoder{f, p, v, map[string]int{"": lineOf(root)}, map[string]bool{}}
}

// textual is a type that files write as a text, at least for short. Its error
// says what the text must be.
type textual interface{ UnmarshalText(text []byte) error }

// decode reads a node into a Go value; at is the node's path.
func (d *decoder) decode(node ast.Node, into reflect.Value, at string) {
	switch v := into.Addr().Interface().(type) {
	case *Step:
		d.decodeStep(node, v, at)
		return
	case *Condition:
		d.decodeCondition(node, v, at)
		return
	case *Matrix:
		d.decodeMatrix(node, v, at)
		return
	case textual:
		if _, isMapping := node.(ast.MapNode); !isMapping || into.Kind() != reflect.Struct {
			d.decodeText(node, v, at)
			return
		}
	}
	switch into.Kind() {
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		d.decode(node, into.Elem(), at)
	case reflect.Struct:
		d.decodeStruct(node, into, at)
	case reflect.Map:
		into.Set(reflect.MakeMap(into.Type()))
		d.entries(node, at, func(key string, value ast.Node, at string) {
			element := reflect.New(into.Type().Elem()).Elem()
			d.decode(value, element, at)
			into.SetMapIndex(reflect.ValueOf(key).Convert(into.Type().Key()), element)
		})
	case reflect.Slice:
		d.elements(node, at, func(value ast.Node, at string) {
			element := reflect.New(into.Type().Elem()).Elem()
			d.decode(value, element, at)
			into.Set(reflect.Append(into, element))
		})
	case reflect.String:
		if text, ok := d.text(node, at, "text"); ok {
			into.SetString(text)
		}
	case reflect.Int:
		d.decodeInt(node, into, at)
	case reflect.Bool:
		d.decodeBool(node, into, at)
	default:
		panic(fmt.Sprintf("scenario: no way to read a %s", into.Type()))
	}
}

func (d *decoder) decodeText(node ast.Node, into textual, at string) {
	text, ok := d.text(node, at, expected(into))
	if !ok {
		return
	}
	if err := into.UnmarshalText([]byte(text)); err != nil {
		d.bad(node, at, "is %s; must be %v", quote(text), err)
	}
}

// expected says what a type's text must be, as it says itself of a wrong one.
func expected(into textual) string {
	if _, isMap := into.(*Map); isMap {
		return `text for STATE, "absent", "keyless" or a mapping`
	}
	return into.UnmarshalText(nil).Error()
}

// decodeStruct reads a mapping whose keys are the fields of a struct.
func (d *decoder) decodeStruct(node ast.Node, into reflect.Value, at string) {
	fields := fieldsOf(into.Type())
	given := map[string]bool{}
	ok := d.entries(node, at, func(key string, value ast.Node, below string) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == key })
		if i < 0 {
			d.badLine(d.lines[below], at, "unknown field %s%s", quote(key), hint(key, names(fields)))
			return
		}
		given[key] = true
		if at == "" && familyFields[key] {
			return // was read before, and is no part of a single scenario
		}
		d.decode(value, into.Field(fields[i].index), below)
	})
	for _, f := range fields {
		if ok && f.required && !given[f.name] {
			d.bad(node, at, "field %s is missing", f.name)
		}
	}
}

// entries calls each for every key and value of a mapping. Only the keys that
// are given are seen, so an empty text differs from none.
func (d *decoder) entries(node ast.Node, at string, each func(key string, value ast.Node, at string)) bool {
	mapping, ok := node.(ast.MapNode)
	if !ok {
		d.bad(node, at, "is %s; must be a mapping", d.kind(node))
		return false
	}
	first := map[string]int{}
	for iter := mapping.MapRange(); iter.Next(); {
		keyNode, line := iter.Key(), lineOf(iter.Key())
		plain, ok := keyNode.(*ast.StringNode)
		if !ok {
			d.badLine(line, at, "key %s is not a plain text; put it in quotes", quote(keyNode.String()))
			continue
		}
		key, _ := d.replace(line, at, plain.Value)
		below := join(at, key)
		if before, twice := first[key]; twice {
			d.badLine(line, at, "key %s stands here a second time, first on line %d", quote(key), before)
			continue
		}
		first[key], d.lines[below] = line, line
		each(key, iter.Value(), below)
	}
	return true
}

// elements calls each for every element of a list.
func (d *decoder) elements(node ast.Node, at string, each func(value ast.Node, at string)) {
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		d.bad(node, at, "is %s; must be a list", d.kind(node))
		return
	}
	for i, value := range sequence.Values {
		below := fmt.Sprintf("%s[%d]", at, i)
		d.lines[below] = lineOf(value)
		each(value, below)
	}
}

func (d *decoder) decodeInt(node ast.Node, into reflect.Value, at string) {
	text, placed := d.placed(node, at)
	if number, ok := node.(*ast.IntegerNode); ok {
		text, placed = number.GetToken().Value, true
	}
	if d.failed[at] {
		return
	}
	value, err := strconv.Atoi(text)
	if !placed || err != nil {
		d.bad(node, at, "is %s; must be a whole number", d.kind(node))
		return
	}
	into.SetInt(int64(value))
}

func (d *decoder) decodeBool(node ast.Node, into reflect.Value, at string) {
	text, placed := d.placed(node, at)
	if b, ok := node.(*ast.BoolNode); ok {
		text, placed = strconv.FormatBool(b.Value), true
	}
	if d.failed[at] {
		return
	}
	if !placed || (text != "true" && text != "false") {
		d.bad(node, at, "is %s; must be true or false", d.kind(node))
		return
	}
	into.SetBool(text == "true")
}

// text returns the text of a node. Numbers and the like are refused: whether
// 010 or off is a text is a question that quotes answer.
func (d *decoder) text(node ast.Node, at, expected string) (string, bool) {
	text, ok := plainText(node)
	if !ok && d.variables == nil {
		// In the matrix values are texts, whatever they look like.
		text, ok = anyScalar(node)
	}
	if !ok {
		advice := ""
		if raw, scalar := anyScalar(node); scalar && strings.Contains(expected, "text") {
			advice = fmt.Sprintf("; for text write %q", raw)
		}
		d.bad(node, at, "is %s; must be %s%s", d.kind(node), expected, advice)
		return "", false
	}
	return d.replace(lineOf(node), at, text)
}

// placed returns the text of a node that has a ${…} in it. Such a text may
// become a number or a truth value, which have no other way to vary.
func (d *decoder) placed(node ast.Node, at string) (string, bool) {
	text, ok := plainText(node)
	if !ok || !strings.Contains(text, "${") {
		return "", false
	}
	return d.replace(lineOf(node), at, text)
}

// replace puts values in the place of all ${…} in a text.
func (d *decoder) replace(line int, at, text string) (string, bool) {
	if d.variables == nil {
		if strings.Contains(text, "${") {
			d.badLine(line, at, "is %s, but a matrix cannot use variables", quote(text))
			return "", false
		}
		return text, true
	}
	replaced, err := d.variables.replace(text, at == "name")
	if err != nil {
		d.badLine(line, at, "%v", err)
		return "", false
	}
	return replaced, true
}

// line returns the line of a path, or of the nearest path around it.
func (d *decoder) line(at string) int {
	for at != "" {
		if line, ok := d.lines[at]; ok {
			return line
		}
		at = at[:max(0, strings.LastIndexAny(at, ".["))]
	}
	return d.lines[""]
}

func (d *decoder) bad(node ast.Node, at, format string, args ...any) {
	d.badLine(lineOf(node), at, format, args...)
}

func (d *decoder) badLine(line int, at, format string, args ...any) {
	d.failed[at] = true
	d.problems.addAt(line, at, fmt.Sprintf(format, args...))
}
