package scenario

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFileBytes is far above any file that a person would write, and keeps a
// mistaken path (a log, an image) from being read as YAML. maxDepth is far above
// what the format has, and little enough for a parser that calls itself.
const (
	maxFileBytes = 256 << 10
	maxDepth     = 100
)

// unquoted finds a ${…} that starts a value without quotes.
var unquoted = regexp.MustCompile(`[\[{,:]\s*\$\{`)

// parseYAML returns the mapping that a file is.
func parseYAML(name string, text []byte) (root ast.MapNode, err error) {
	bad := func(line int, format string, args ...any) (ast.MapNode, error) {
		return nil, &Problem{name, line, fmt.Sprintf(format, args...)}
	}
	if len(text) > maxFileBytes {
		return bad(0, "has %d bytes; must be at most %d", len(text), maxFileBytes)
	}
	if bytes.HasPrefix(text, []byte("\xef\xbb\xbf")) {
		return bad(1, "begins with a byte order mark; save the file as UTF-8 without one")
	}
	if line := tooDeep(text); line > 0 {
		return bad(line, "has more than %d brackets within each other", maxDepth)
	}
	// Duplicate keys are left to entries, which goes on after them.
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	var syntax yaml.Error
	switch {
	case errors.As(err, &syntax):
		line, advice := 0, ""
		if token := syntax.GetToken(); token != nil {
			line = token.Position.Line
		}
		lines := strings.Split(string(text), "\n")
		if line > 0 && line <= len(lines) && unquoted.MatchString(lines[line-1]) {
			advice = `; within {} and [] a variable needs quotes, as "${name}"`
		}
		return bad(line, "%s%s", printable(syntax.GetMessage()), advice)
	case err != nil:
		return bad(0, "%s", printable(err.Error()))
	case len(file.Docs) == 0 || file.Docs[0].Body == nil:
		return bad(1, "the file is empty")
	case len(file.Docs) > 1:
		return bad(1, "the file has %d documents; must be one", len(file.Docs))
	}
	root, ok := file.Docs[0].Body.(ast.MapNode)
	if !ok {
		return bad(lineOf(file.Docs[0].Body), "the file must be a mapping, with name and so on")
	}
	return root, nil
}

// tooDeep returns the line on which brackets are nested too deeply, 0 if there is
// none. Those in texts count as well, which no honest file has so many of.
func tooDeep(text []byte) int {
	depth, line := 0, 1
	for _, c := range text {
		switch c {
		case '\n':
			line++
		case '[', '{':
			if depth++; depth > maxDepth {
				return line
			}
		case ']', '}':
			depth--
		}
	}
	return 0
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

// read turns a node into the value that the schema is about, and remembers on which
// lines everything stands. It does not use the YAML library's own decoder because
// that one ends at the first mistake, and knows no variables.
func (c *Checker) read(node ast.Node, at string) any {
	here := c.at(at)
	here.line = cmp.Or(here.line, lineOf(node))
	switch n := node.(type) {
	case ast.MapNode:
		all := map[string]any{}
		for key, value := range c.entries(n, at) {
			all[key] = c.read(value, join(at, key))
		}
		return all
	case *ast.SequenceNode:
		all := []any{}
		for i, value := range n.Values {
			all = append(all, c.read(value, fmt.Sprintf("%s[%d]", at, i)))
		}
		return all
	case *ast.StringNode:
		return c.text(n, n.Value, at)
	case *ast.LiteralNode:
		return c.text(n, n.Value.Value, at)
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode, *ast.BoolNode:
		here.raw = n.GetToken().Value
		number, err := strconv.Atoi(here.raw)
		is, isBool := n.(*ast.BoolNode)
		switch {
		case c.variables == nil:
			return here.raw // in the matrix values are texts, whatever they look like
		case isBool:
			return is.Value
		case err != nil:
			return 0.5 // some number that is not whole
		}
		return number
	case *ast.NullNode:
		return nil
	}
	// They would make a file harder to read than the repetition they save, and tags
	// have no use here.
	c.badLine(lineOf(node), at, "is an anchor, alias or tag; write out what is meant")
	return nil
}

// entries are the keys and values of a mapping. Only the keys that are given are
// seen, so an empty text differs from none.
func (c *Checker) entries(mapping ast.MapNode, at string) iter.Seq2[string, ast.Node] {
	return func(yield func(string, ast.Node) bool) {
		first := map[string]int{}
		for iter := mapping.MapRange(); iter.Next(); {
			line := lineOf(iter.Key())
			plain, ok := iter.Key().(*ast.StringNode)
			if !ok {
				c.badLine(line, at, "key %s is not a plain text; put it in quotes", quote(iter.Key().String()))
				continue
			}
			key, _ := c.replace(line, at, plain.Value)
			if before, twice := first[key]; twice {
				c.badLine(line, at, "key %s stands here a second time, first on line %d", quote(key), before)
				continue
			}
			first[key], c.at(join(at, key)).line = line, line
			if !yield(key, iter.Value()) {
				return
			}
		}
	}
}

// text is a text with values in the place of all ${…}. It becomes a number or a
// truth value where the schema wants one, which has no other way to vary.
func (c *Checker) text(node ast.Node, text, at string) any {
	replaced, ok := c.replace(lineOf(node), at, text)
	here := c.at(at)
	here.varies = here.varies || replaced != text
	switch n, err := strconv.Atoi(replaced); {
	case !ok:
		return nil
	case here.typed && err == nil:
		return n
	case here.typed && (replaced == "true" || replaced == "false"):
		return replaced == "true"
	}
	return replaced
}

// replace puts values in the place of all ${…} in a text.
func (c *Checker) replace(line int, at, text string) (string, bool) {
	switch {
	case c.variables != nil:
		replaced, err := c.variables.replace(text, at == "name")
		if err != nil {
			c.badLine(line, at, "%v", err)
		}
		return replaced, err == nil
	case strings.Contains(text, "${"):
		c.badLine(line, at, "is %s, but a matrix cannot use variables", quote(text))
		return "", false
	}
	return text, true
}
