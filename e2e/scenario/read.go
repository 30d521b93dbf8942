package scenario

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/studioml/studio-go-runner/runner/api"
)

// begin returns where a node begins.
func begin(node ast.Node) *token.Position {
	// A block mapping's own token is the colon behind its first key.
	if mapping, ok := node.(*ast.MappingNode); ok && !mapping.IsFlowStyle && len(mapping.Values) > 0 {
		node = mapping.Values[0].Key
	}
	if node == nil || node.GetToken() == nil {
		return &token.Position{Line: 1}
	}
	return node.GetToken().Position
}

// maxPath is in bytes, and far above the path of anything that the format has.
const maxPath = 1000

// read turns a node into the value that the schema is about, with values in the place
// of all ${…}, and remembers where everything stands. It does not use the YAML
// library's own decoder because that one ends at the first mistake, and knows no
// variables.
func (c *Checker) read(node ast.Node, at string) any {
	if len(at) > maxPath {
		return nil // the schema has nothing that deep, and says so of what is around it
	}
	c.places[at] = cmp.Or(c.places[at], begin(node))
	switch n := node.(type) {
	case ast.MapNode:
		return c.mapping(n, at, func(string) bool { return true })
	case *ast.SequenceNode:
		all := []any{}
		for i, value := range n.Values {
			all = append(all, c.read(value, fmt.Sprintf("%s[%d]", at, i)))
		}
		return all
	case *ast.StringNode:
		return c.text(n.Value, at)
	case *ast.LiteralNode:
		return c.text(n.Value.Value, at)
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		if written := n.GetToken().Value; !decimal.MatchString(written) {
			// 010 is 8 to some and 10 to others.
			c.fail(begin(node).Line, at, "is %s; write a plain decimal number, or a text in quotes", quote(written))
			return nil
		}
		return n.(ast.ScalarNode).GetValue()
	case *ast.BoolNode:
		return n.GetValue()
	case *ast.NullNode:
		return nil
	}
	// They would make a file harder to read than the repetition they save, and tags
	// have no use here.
	c.fail(begin(node).Line, at, "is an anchor, alias or tag; write out what is meant")
	return nil
}

// mapping reads the fields that are wanted.
func (c *Checker) mapping(mapping ast.MapNode, at string, wanted func(key string) bool) map[string]any {
	all := map[string]any{}
	for iter := mapping.MapRange(); iter.Next(); {
		place := begin(iter.Key())
		plain, ok := iter.Key().(*ast.StringNode)
		if !ok {
			c.problems.add(place.Line, at, "key %s is not a plain text; put it in quotes", quote(iter.Key().String()))
			continue
		}
		key, ok := c.replace(plain.Value, at, place.Line)
		if !ok || !wanted(key) {
			continue
		}
		below := join(at, key)
		if _, twice := all[key]; twice {
			first := c.places[below].Line
			c.problems.add(place.Line, at, "key %s stands here a second time, first on line %d", quote(key), first)
			continue
		}
		c.places[below] = place
		all[key] = c.read(iter.Value(), below)
	}
	return all
}

// text is a text with values in the place of all ${…}. One that is a variable and
// nothing else is its value, which may be a number or a truth value.
func (c *Checker) text(text, at string) any {
	replaced, ok := c.replace(text, at, c.places[at].Line)
	switch {
	case !ok:
		return nil
	case text != "" && reference.FindString(text) == text && at != "name":
		return c.values[text[2:len(text)-1]]
	}
	return replaced
}

var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`)

var reference = regexp.MustCompile(`\$\{[^}]*\}?`)

// replace puts values in the place of all ${…} in a text, once: a value is not
// looked at again. In the name of a scenario a value that could not be seen there, as
// an empty one, is quoted.
func (c *Checker) replace(text, at string, line int) (replaced string, ok bool) {
	ok = true
	replaced = reference.ReplaceAllStringFunc(text, func(found string) string {
		name, closed := strings.CutSuffix(found[2:], "}")
		given, known := c.values[name]
		value := fmt.Sprint(given)
		switch {
		case !closed:
			c.fail(line, at, "has a ${ without an end in %s", quote(text))
		case c.values == nil:
			c.fail(line, at, "is %s, but a matrix cannot use variables", quote(text))
		case !known:
			c.fail(line, at, "%s has no value; must be a variable of each combination, or a part of a prediction%s",
				quote(found), api.DidYouMean(name, slices.Sorted(maps.Keys(c.values))))
		case at == "name" && (value == "" || value != strings.TrimSpace(value)):
			return quote(value)
		}
		if ok = ok && known; at != "name" && at != "about" {
			prediction, _, _ := strings.Cut(name, ".")
			c.used[name], c.used[prediction] = true, true
		}
		return value
	})
	return replaced, ok
}
