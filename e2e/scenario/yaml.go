package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
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

// parseYAML returns the root of the one document in a file.
func parseYAML(name string, text []byte) (root ast.Node, err error) {
	bad := func(line int, format string, args ...any) (ast.Node, error) {
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
	// Duplicate keys are left to the decoder, which goes on after them.
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
	return file.Docs[0].Body, nil
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
func (c *Checker) kind(node ast.Node) string {
	switch n := node.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		text, _ := plainText(n)
		if c.variables != nil {
			if replaced, err := c.variables.replace(text, false); err == nil {
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
