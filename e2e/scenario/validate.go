package scenario

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
		document, broken := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		f.compiler = jsonschema.NewCompiler()
		if err := errors.Join(err, broken, f.compiler.AddResource(schemaName, document)); err != nil {
			panic(err)
		}
	}
	return f.compiler.MustCompile(url)
}

// mistake is what the schema has against a value.
type mistake struct {
	*jsonschema.ValidationError
	at    string
	value any
	set   func(any) // puts another one into its place
}

// validate holds what was read against the schema, and reports what does not fit.
func (c *Checker) validate(tree map[string]any) {
	all, again := c.mistakes(tree), false
	for _, m := range all {
		again = c.retype(m) || again
	}
	if again {
		all = c.mistakes(tree)
	}
	before := maps.Clone(c.failed)
	for _, m := range all {
		if !before[m.at] {
			c.report(m)
		}
	}
}

// mistakes are all that the schema has against what was read.
func (c *Checker) mistakes(tree any) (all []mistake) {
	var visit func(e *jsonschema.ValidationError)
	visit = func(e *jsonschema.ValidationError) {
		causes := e.Causes
		if _, choice := e.ErrorKind.(*kind.AnyOf); choice {
			causes = causes[:1] // behind it is the placeholder that editors may see
		}
		for _, cause := range causes {
			visit(cause)
		}
		if len(causes) > 0 {
			return
		}
		m := mistake{ValidationError: e, value: tree}
		for _, name := range e.InstanceLocation {
			switch in := m.value.(type) {
			case map[string]any:
				m.at, m.value, m.set = join(m.at, name), in[name], func(v any) { in[name] = v }
			case []any:
				i, _ := strconv.Atoi(name)
				m.at, m.value, m.set = fmt.Sprintf("%s[%d]", m.at, i), in[i], func(v any) { in[i] = v }
			}
		}
		all = append(all, m)
	}
	if e, ok := c.format.compile(schemaName).Validate(tree).(*jsonschema.ValidationError); ok {
		visit(e)
	}
	return all
}

// retype makes a number or a truth value of a text with a variable in it where the
// schema wants one, which has no other way to vary.
func (c *Checker) retype(m mistake) bool {
	text, isText := m.value.(string)
	_, isType := m.ErrorKind.(*kind.Type)
	var typed any
	if !isType || !isText || !c.varies[m.at] || json.Unmarshal([]byte(text), &typed) != nil {
		return false
	}
	switch typed.(type) {
	case float64, bool:
		m.set(typed)
		return true
	}
	return false
}

// report says what is wrong: in the words of the library, or those of the type, and
// with a hint where a name may be mistyped.
func (c *Checker) report(m mistake) {
	part, text := c.format.compile(m.SchemaURL), m.BasicOutput().Error.String()
	switch k := m.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		known := slices.Sorted(maps.Keys(part.Properties))
		for _, name := range k.Properties {
			c.fail(c.line(join(m.at, name)), m.at, "unknown field %s%s", quote(name), api.DidYouMean(name, known))
			delete(m.value.(map[string]any), name)
		}
		return
	case *kind.Required:
		if c.values == nil {
			return // only a part of the file was read
		}
	case *kind.Type:
		m.set(nil)
		if part.Title != "" {
			text += "; must be " + part.Title
		}
	case *kind.Enum:
		var words []string
		for _, word := range k.Want {
			words = append(words, fmt.Sprint(word))
		}
		text = notAWord(fmt.Sprint(m.value), words)
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
	c.fail(c.line(m.at), m.at, "%s", text)
}
