package scenario

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

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
		schema := f.reflect(&reflector.Reflector{})
		schema.Definitions["placeholder"] = reflector.FalseSchema // what is read has none left
		text, err := json.Marshal(schema)
		document, broken := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		f.compiler = jsonschema.NewCompiler()
		if err := errors.Join(err, broken, f.compiler.AddResource(schemaName, document)); err != nil {
			panic(err)
		}
	}
	return f.compiler.MustCompile(url)
}

// validate holds what was read against the schema, and reports what does not fit.
func (c *Checker) validate(tree any) {
	unread := maps.Clone(c.failed)
	var visit func(e *jsonschema.ValidationError)
	visit = func(e *jsonschema.ValidationError) {
		causes := e.Causes
		if _, choice := e.ErrorKind.(*kind.AnyOf); choice {
			causes = causes[:1] // behind it is the placeholder that editors may see
		}
		for _, cause := range causes {
			visit(cause)
		}
		if at, value := find(tree, e.InstanceLocation); len(causes) == 0 && !unread[at] {
			c.report(e, at, value)
		}
	}
	if e, ok := c.format.compile(schemaName).Validate(tree).(*jsonschema.ValidationError); ok {
		visit(e)
	}
}

// find returns the path of what the schema is about, and its value.
func find(tree any, location []string) (at string, value any) {
	value = tree
	for _, name := range location {
		switch in := value.(type) {
		case map[string]any:
			at, value = join(at, name), in[name]
		case []any:
			i, _ := strconv.Atoi(name)
			at, value = fmt.Sprintf("%s[%d]", at, i), in[i]
		}
	}
	return at, value
}

// kinds are those of JSON, as people call them who write YAML.
var kinds = map[string]string{
	"array": "a list", "boolean": "true or false", "integer": "a whole number", "null": "nothing",
	"number": "a number", "object": "a mapping", "string": "a text",
}

// report says what is wrong, and what would be right: a name that may be meant, else all
// that there are.
func (c *Checker) report(e *jsonschema.ValidationError, at string, value any) {
	part, text := c.format.compile(e.SchemaURL), e.BasicOutput().Error.String()
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		known := slices.Sorted(maps.Keys(part.Properties))
		for _, name := range k.Properties {
			hint := cmp.Or(api.DidYouMean(name, known), "; must be "+list(known))
			c.fail(c.line(join(at, name)), at, "unknown field %s%s", quote(name), hint)
			delete(value.(map[string]any), name)
		}
		return
	case *kind.Required:
		if c.values == nil {
			return // only a part of the file was read
		}
		text = `lacks "` + strings.Join(k.Missing, `", "`) + `"`
	case *kind.Type:
		var want []string
		for _, name := range k.Want {
			want = append(want, kinds[name])
		}
		is := kinds[k.Got]
		switch v := value.(type) {
		case nil, map[string]any, []any:
		case string:
			is = quote(v)
		default:
			is = fmt.Sprint(v)
		}
		text = fmt.Sprintf("is %s; must be %s", is, cmp.Or(part.Title, list(want)))
	case *kind.Minimum:
		text = fmt.Sprintf("is %s; must be at least %s", k.Got.RatString(), k.Want.RatString())
	case *kind.Maximum:
		text = fmt.Sprintf("is %s; must be at most %s", k.Got.RatString(), k.Want.RatString())
	case *kind.MaxLength:
		text = fmt.Sprintf("has %d characters; must be at most %d", k.Got, k.Want)
	case *kind.Enum:
		var words []string
		for _, word := range k.Want {
			words = append(words, fmt.Sprint(word))
		}
		text = notAWord(fmt.Sprint(value), words)
	case *kind.MinItems, *kind.MinProperties:
		text = "is empty"
	case *kind.MaxProperties:
		text = "does more than one thing; make a step of each"
	case *kind.Pattern:
		text = "is empty"
		if "pattern="+k.Want != Seen {
			text = fmt.Sprintf("is %s; must be %s", quote(k.Got), part.Title)
		}
	}
	c.fail(c.line(at), at, "%s", text)
}
