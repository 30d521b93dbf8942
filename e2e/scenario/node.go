package scenario

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// unquoted finds a ${…} that starts a value without quotes.
var unquoted = regexp.MustCompile(`[\[{,:]\s*\$\{`)

// parseYAML returns the root of the one document in a file.
func parseYAML(name string, text []byte) (root ast.Node, err error) {
	// Duplicate keys are left to the decoder, which goes on after them.
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	var syntax yaml.Error
	switch {
	case errors.As(err, &syntax):
		p := &Problem{name, 0, printable(syntax.GetMessage())}
		if token := syntax.GetToken(); token != nil {
			p.Line = token.Position.Line
		}
		lines := strings.Split(string(text), "\n")
		if p.Line > 0 && p.Line <= len(lines) && unquoted.MatchString(lines[p.Line-1]) {
			p.Text += `; within {} and [] a variable needs quotes, as "${name}"`
		}
		return nil, p
	case err != nil:
		return nil, &Problem{name, 0, printable(err.Error())}
	case len(file.Docs) == 0 || file.Docs[0].Body == nil:
		return nil, &Problem{name, 1, "the file is empty"}
	case len(file.Docs) > 1:
		return nil, &Problem{name, 1, fmt.Sprintf("the file has %d documents; must be one", len(file.Docs))}
	}
	return file.Docs[0].Body, nil
}

// lineOf returns the line on which a node begins.
func lineOf(node ast.Node) int {
	// A block mapping's own token is the colon behind its first key.
	if mapping, ok := node.(*ast.MappingNode); ok && !mapping.IsFlowStyle && len(mapping.Values) > 0 {
		node = mapping.Values[0].Key
	}
	if node == nil || node.GetToken() == nil {
		return 1
	}
	return node.GetToken().Position.Line
}

// plainText returns the value of a node that is text.
func plainText(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

// anyScalar returns a number, truth value or text as it was written.
func anyScalar(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return plainText(node)
}

// kind says what a node is, for people.
func (d *decoder) kind(node ast.Node) string {
	switch n := node.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		text, _ := plainText(n)
		if d.variables != nil {
			if replaced, err := d.variables.replace(text, false); err == nil {
				text = replaced
			}
		}
		return "the text " + quote(text)
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + n.GetToken().Value
	case *ast.BoolNode:
		return "the truth value " + n.GetToken().Value
	case *ast.NullNode:
		return "empty"
	case ast.MapNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	default:
		// Anchors and aliases would make a file harder to read than the
		// repetition they save, and tags have no use here.
		return "an anchor, alias or tag"
	}
}

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
	if all, ok := knownFields.Load(t); ok {
		return all.([]field)
	}
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
	knownFields.Store(t, fields)
	return fields
}

// knownFields keeps what was read of types, since a family is decoded many times.
var knownFields sync.Map

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

func names(fields []field) []string {
	var names []string
	for _, f := range fields {
		names = append(names, f.name)
	}
	return names
}
