package scenario

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"

	reflector "github.com/invopop/jsonschema"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/studioml/studio-go-runner/runner/api"
)

// schemaName is absolute: a relative one would be one of the working directory.
const schemaName = "mem:///scenario.json"

// compile returns the schema that files are held against, or a part of it. The format
// is a part of the program, so an error is a mistake in that.
func (f *Format) compile(url string) *jsonschema.Schema {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.compiler == nil {
		text, err := json.Marshal(f.reflect(&reflector.Reflector{}))
		if err != nil {
			panic(err)
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			panic(err)
		}
		f.compiler = jsonschema.NewCompiler()
		if err := f.compiler.AddResource(schemaName, document); err != nil {
			panic(err)
		}
	}
	return f.compiler.MustCompile(url)
}

// validate holds what was read against the schema, and reports what does not fit.
func (c *Checker) validate(tree any) {
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
			c.explain(at, value, e)
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
	if wrong, ok := c.format.compile(schemaName).Validate(tree).(*jsonschema.ValidationError); ok {
		all(wrong)
	}
}

func is[K jsonschema.ErrorKind](e *jsonschema.ValidationError) bool {
	_, ok := e.ErrorKind.(K)
	return ok
}

// explain reports what the schema has against a value.
func (c *Checker) explain(at string, value any, e *jsonschema.ValidationError) {
	part := c.format.compile(e.SchemaURL)
	known := slices.Sorted(maps.Keys(part.Properties))
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			if c.variables != nil { // else only a part of the file was read
				c.badLine(c.line(at), at, "field %s is missing", name)
			}
		}
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			c.badLine(c.line(join(at, name)), at, "unknown field %s%s", quote(name), api.DidYouMean(name, known))
		}
	case *kind.UniqueItems:
		all := value.([]any)
		for i, one := range all {
			if slices.ContainsFunc(all[:i], func(other any) bool { return reflect.DeepEqual(other, one) }) {
				c.Bad(fmt.Sprintf("%s[%d]", at, i), "%s stands there twice", quote(fmt.Sprint(one)))
			}
		}
	case *kind.MaxProperties:
		given := slices.Sorted(maps.Keys(value.(map[string]any)))
		c.badLine(c.line(at), at, "does more than one thing: %s; make a step of each", list(given))
	case *kind.MinProperties:
		if part.MaxProperties != nil {
			c.badLine(c.line(at), at, "does nothing; must have one of %s", list(known))
		} else {
			c.badLine(c.line(at), at, "is empty")
		}
	default:
		if text := c.complaint(at, value, e, part); text != "" && !c.at(at).failed {
			c.badLine(c.line(at), at, "%s", text)
		}
	}
}

// complaint is what is wrong with a value itself, in the words of operators. It is empty
// where its type says it better, and for a text that has to be read again.
func (c *Checker) complaint(at string, value any, e *jsonschema.ValidationError, part *jsonschema.Schema) string {
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		if here := c.at(at); here.varies && !here.typed {
			here.typed, c.again = true, true
			return ""
		}
		text := fmt.Sprintf("is %s; must be %s", c.kind(at, value), cmp.Or(part.Title, typeNames[k.Want[0]]))
		if raw := c.at(at).raw; raw != "" && k.Want[0] == "string" && part.Pattern == nil {
			text += fmt.Sprintf("; for text write %q", raw)
		}
		return text
	case *kind.Enum:
		var words []string
		for _, word := range k.Want {
			words = append(words, fmt.Sprint(word))
		}
		return notAWord(fmt.Sprint(value), words)
	case *kind.Minimum, *kind.Maximum:
		if part.Maximum == nil {
			return fmt.Sprintf("is %v; must be %s or more", value, part.Minimum.RatString())
		}
		return fmt.Sprintf("is %v; must be %s to %s", value, part.Minimum.RatString(), part.Maximum.RatString())
	case *kind.MaxLength:
		return fmt.Sprintf("has %d characters; must be at most %d", k.Got, k.Want)
	case *kind.MinItems:
		return "is empty"
	case *kind.Pattern:
		if "pattern="+k.Want == Seen {
			return "is empty"
		}
		return ""
	}
	return e.Error()
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
