package scenario

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	reflector "github.com/invopop/jsonschema"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// schema is the one of a format, as a document and ready for use.
type schema struct {
	document any
	*jsonschema.Schema
}

// compile makes the schema of the format, once. The format is part of the program,
// so an error is a mistake in that.
func (f *Format) compile() *schema {
	f.once.Do(func() {
		const name = "scenario.json"
		text, err := json.Marshal(f.reflect(&reflector.Reflector{}))
		if err != nil {
			panic(err)
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			panic(err)
		}
		compiler := jsonschema.NewCompiler()
		if err := compiler.AddResource(name, document); err != nil {
			panic(err)
		}
		f.schema = &schema{document, compiler.MustCompile(name)}
	})
	return f.schema
}

// at is the part of the schema with some URL.
func (s *schema) at(url string) map[string]any {
	_, pointer, _ := strings.Cut(url, "#")
	here := s.document
	for _, name := range strings.Split(pointer, "/")[1:] {
		switch in := here.(type) {
		case map[string]any:
			here = in[name]
		case []any:
			i, _ := strconv.Atoi(name)
			here = in[i]
		}
	}
	part, _ := here.(map[string]any)
	return part
}

// validate holds what was read against the schema.
func (c *Checker) validate(tree any, tell func(at string, value any, e *jsonschema.ValidationError)) {
	var all func(e *jsonschema.ValidationError)
	all = func(e *jsonschema.ValidationError) {
		at, value := "", tree
		for _, name := range e.InstanceLocation {
			switch in := value.(type) {
			case map[string]any:
				at, value = join(at, name), in[name]
			case []any:
				i, _ := strconv.Atoi(name)
				at, value = fmt.Sprintf("%s[%d]", at, i), in[i]
			}
		}
		switch _, isMapping := value.(map[string]any); {
		case len(e.Causes) == 0:
			tell(at, value, e)
		case !is[*kind.AnyOf](e):
			for _, cause := range e.Causes {
				all(cause)
			}
		case isMapping: // whose short form comes first
			all(e.Causes[len(e.Causes)-1])
		default: // behind the first is a placeholder or the long form
			all(e.Causes[0])
		}
	}
	if wrong, ok := c.format.compile().Validate(tree).(*jsonschema.ValidationError); ok {
		all(wrong)
	}
}

func is[K jsonschema.ErrorKind](e *jsonschema.ValidationError) bool {
	_, ok := e.ErrorKind.(K)
	return ok
}

// explain reports what the schema has against a value, in the words of operators.
func (c *Checker) explain(at string, value any, e *jsonschema.ValidationError) {
	if c.at(at).failed {
		return
	}
	part := c.format.compile().at(e.SchemaURL)
	properties, _ := part["properties"].(map[string]any)
	known := slices.Sorted(maps.Keys(properties))
	title, _ := part["title"].(string)
	line, below, text := c.line(at), at, ""
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		text = fmt.Sprintf("is %s; must be %s", c.kind(at, value), cmp.Or(title, typeNames[k.Want[0]]))
		if raw := c.at(at).raw; raw != "" && k.Want[0] == "string" && part["pattern"] == nil {
			text += fmt.Sprintf("; for text write %q", raw)
		}
	case *kind.Enum:
		var words []string
		for _, word := range k.Want {
			words = append(words, fmt.Sprint(word))
		}
		text = notAWord(fmt.Sprint(value), words)
	case *kind.Minimum, *kind.Maximum:
		text = fmt.Sprintf("is %v; must be %v or more", value, part["minimum"])
		if most, ok := part["maximum"]; ok {
			text = fmt.Sprintf("is %v; must be %v to %v", value, part["minimum"], most)
		}
	case *kind.MaxLength:
		text = fmt.Sprintf("has %d characters; must be at most %d", k.Got, k.Want)
	case *kind.MinItems:
		text = "is empty"
	case *kind.MinProperties:
		if text = "is empty"; part["maxProperties"] != nil {
			text = "does nothing; must have one of " + list(known)
		}
	case *kind.MaxProperties:
		given := slices.Sorted(maps.Keys(value.(map[string]any)))
		text = fmt.Sprintf("does more than one thing: %s; make a step of each", list(given))
	case *kind.UniqueItems:
		i := k.Duplicates[1]
		below, text = fmt.Sprintf("%s[%d]", at, i), fmt.Sprintf("%s stands there twice", quote(fmt.Sprint(value.([]any)[i])))
		line = c.line(below)
	case *kind.Required:
		for _, name := range k.Missing {
			if c.variables != nil { // else only a part of the file was read
				c.badLine(line, at, "field %s is missing", name)
			}
		}
		return
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			c.badLine(c.line(join(at, name)), at, "unknown field %s%s", quote(name), hint(name, known))
		}
		return
	case *kind.Pattern:
		if "pattern="+k.Want != Seen {
			return // the type itself says what the text must be
		}
		text = "is empty"
	default:
		text = e.Error()
	}
	c.badLine(line, below, "%s", text)
}

// typeNames are the types of the schema, for people.
var typeNames = map[string]string{"string": "text", "integer": "a whole number", "boolean": "true or false", "object": "a mapping", "array": "a list"}

// kind says what a value is, for people.
func (c *Checker) kind(at string, value any) string {
	switch v := value.(type) {
	case nil:
		return "empty"
	case string:
		return "the text " + quote(v)
	case bool:
		return "the truth value " + c.at(at).raw
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	}
	return "the number " + c.at(at).raw
}
