package scenario

import (
	"encoding/json"
	"fmt"
	"go/token"
	"reflect"

	"github.com/invopop/jsonschema"

	"github.com/studioml/studio-go-runner/e2e/catalogue"
	"github.com/studioml/studio-go-runner/runner/api"
)

// placeholder is a text with a ${…} in it, which can stand in for a number, a truth
// value or one of a few words: an editor sees a file before it is expanded.
const placeholder = `\$\{[^}]+\}`

// DurationPattern is what a duration looks like.
const DurationPattern = `([0-9]*\.?[0-9]+(ns|us|µs|ms|s|m|h))+`

// Schema returns the JSON schema of a scenario file, for editors. The descriptions
// are the comments in the sources of the types, from the root of the repository, in
// which it must be called.
func (f *Format) Schema(sources ...string) ([]byte, error) {
	var r jsonschema.Reflector
	for _, s := range sources {
		if err := r.AddGoComments("github.com/studioml/studio-go-runner", s, jsonschema.WithFullComment()); err != nil {
			return nil, fmt.Errorf("read comments for the schema: %w", err)
		}
	}
	text, err := json.MarshalIndent(f.reflect(&r), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write schema: %w", err)
	}
	return append(text, '\n'), nil
}

// reflect makes the schema from what files are decoded by.
func (f *Format) reflect(r *jsonschema.Reflector) *jsonschema.Schema {
	r.Anonymous, r.ExpandedStruct, r.Mapper, r.AdditionalFields = true, true, mapped, f.fields
	r.LookupComment = func(t reflect.Type, field string) string {
		for _, v := range f.Verbs {
			if v.Type == t && field == "" && !token.IsExported(t.Name()) {
				return v.Doc
			}
		}
		return ""
	}
	file := r.Reflect(File{})
	file.Title = "A scenario of studio-go-runner"
	tighten(file)
	for _, s := range file.Definitions {
		tighten(s)
	}
	step, facts := file.Definitions["Step"], file.Definitions["Facts"]
	step.MinProperties, step.MaxProperties, facts.MinProperties = new(uint64(1)), new(uint64(1)), new(uint64(1))
	file.Definitions["placeholder"] = &jsonschema.Schema{Type: "string", Pattern: placeholder,
		Description: "A variable of the matrix or a part of a prediction stands here."}
	return file
}

// mapped is the schema of a type that files write in another way than Go.
func mapped(t reflect.Type) *jsonschema.Schema {
	// A value of a matrix is taken as text whatever it looks like.
	scalar := &jsonschema.Schema{Extras: map[string]any{"type": []string{"string", "number", "boolean"}}}
	switch t {
	case reflect.TypeFor[Matrix]():
		return &jsonschema.Schema{Type: "object", AdditionalProperties: &jsonschema.Schema{Type: "array", Items: scalar}}
	case reflect.TypeFor[Combination]():
		return &jsonschema.Schema{Type: "object", AdditionalProperties: scalar}
	case reflect.TypeFor[Duration]():
		return &jsonschema.Schema{Type: "string", Pattern: "^" + DurationPattern + "$", Title: positive}
	case reflect.TypeFor[[]byte]():
		return &jsonschema.Schema{Type: "string", Title: "base64",
			Pattern: "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"}
	case reflect.TypeFor[api.Bytes]():
		return &jsonschema.Schema{Type: "string"}
	case reflect.TypeFor[Name]():
		return &jsonschema.Schema{Type: "string", Title: "small letters, digits and '-'",
			Pattern: "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"} // which keeps clear of the signs of Ginkgo's label filter
	case reflect.TypeFor[catalogue.Row]():
		return &jsonschema.Schema{Type: "integer", Minimum: "1", Maximum: json.Number(fmt.Sprint(int(catalogue.Last)))}
	}
	if w, ok := reflect.Zero(t).Interface().(words); ok {
		s := &jsonschema.Schema{Type: "string"}
		for _, word := range w.Words() {
			s.Enum = append(s.Enum, word)
		}
		return s
	}
	return nil
}

// JSONSchemaExtend adds the short form.
func (Map) JSONSchemaExtend(s *jsonschema.Schema) {
	OrText(s, `text for STATE, "absent", "keyless" or a mapping`, "")
}

// OrText makes the schema of a mapping that of one with a short form, a text.
func OrText(s *jsonschema.Schema, title, pattern string) {
	s.Title, s.Pattern = title, pattern
	s.Type, s.Extras = "", map[string]any{"type": []string{"string", "object"}}
}

// tighten says what holds of everything: lists and mappings are not empty, lists have
// a text or number once, and a placeholder may stand for what is more than any text.
func tighten(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	for _, below := range append(s.AnyOf, s.Items, s.AdditionalProperties) {
		tighten(below)
	}
	if s.Properties != nil {
		for _, below := range s.Properties.FromOldest() {
			tighten(below)
		}
	}
	switch {
	case s.Type == "array":
		s.MinItems, s.UniqueItems = new(uint64(1)), s.Items.Ref == ""
	case s.Type == "object" && s.Properties == nil:
		s.MinProperties = new(uint64(1))
	case s.Type == "integer" || s.Type == "boolean" || s.Enum != nil || s.Pattern != "" && "pattern="+s.Pattern != Seen:
		one := *s
		one.Description, one.Default = "", nil
		*s = jsonschema.Schema{Description: s.Description, Default: s.Default, AnyOf: []*jsonschema.Schema{&one, {Ref: "#/$defs/placeholder"}}}
	}
}
