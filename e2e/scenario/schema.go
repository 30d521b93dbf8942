package scenario

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"
)

// placeholder is a text with a ${…} in it, which can stand in for a number, a
// truth value or one of a few words: an editor sees a file before it is expanded.
const placeholder = `\$\{[^}]+\}`

// Schema returns the JSON schema of a scenario file, for editors. The
// descriptions are the comments in the Go files of this package, which are read
// from the directory sources.
func Schema(sources string) ([]byte, error) {
	r := &jsonschema.Reflector{ExpandedStruct: true, Anonymous: true, Mapper: unlikeGo}
	if err := r.AddGoComments("", sources, jsonschema.WithFullComment()); err != nil {
		return nil, fmt.Errorf("read comments for the schema: %w", err)
	}
	r.LookupComment = func(t reflect.Type, name string) string {
		// Comments are stored by directory, because only that was known.
		key := filepath.ToSlash(filepath.Clean(sources)) + "." + t.Name()
		if name != "" {
			key += "." + name
		}
		return strings.Join(strings.Fields(r.CommentMap[key]), " ")
	}
	s := r.Reflect(&File{})
	s.Title = "A scenario of studio-go-runner"
	restrict(s)

	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write schema: %w", err)
	}
	return append(text, '\n'), nil
}

// unlikeGo returns the schemas of the types that files write in another way
// than Go does.
func unlikeGo(t reflect.Type) *jsonschema.Schema {
	switch t {
	case matrixType:
		return &jsonschema.Schema{Type: "object", AdditionalProperties: some(scalar())}
	case durationType:
		return duration()
	case reflect.TypeFor[Need]():
		return oneOfWords(needs)
	case reflect.TypeFor[Permissions]():
		return oneOfWords(permissions)
	}
	switch t.Kind() {
	case reflect.Int:
		return orPlaceholder(&jsonschema.Schema{Type: "integer"})
	case reflect.Bool:
		return orPlaceholder(&jsonschema.Schema{Type: "boolean"})
	}
	return nil
}

func orPlaceholder(s *jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{s, {Ref: "#/$defs/placeholder"}}}
}

// scalar is a value of a matrix, which is taken as text whatever it looks like.
func scalar() *jsonschema.Schema {
	return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}, {Type: "boolean"}}}
}

// some is a list of one or more different items.
func some(items *jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "array", Items: items, MinItems: new(uint64(1)), UniqueItems: true}
}

func oneOfWords(words []string) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string"}
	for _, word := range words {
		s.Enum = append(s.Enum, word)
	}
	return orPlaceholder(s)
}

func duration() *jsonschema.Schema {
	return orPlaceholder(&jsonschema.Schema{Type: "string", Pattern: `^([0-9]*\.?[0-9]+(ns|us|µs|ms|s|m|h))+$`})
}

// restrict adds what the Go types alone do not say.
func restrict(file *jsonschema.Schema) {
	// set narrows a field, and keeps its description.
	set := func(in *jsonschema.Schema, field string, to *jsonschema.Schema) {
		old, ok := in.Properties.Get(field)
		if !ok {
			panic("scenario: schema has no field " + field)
		}
		to.Description = old.Description
		in.Properties.Set(field, to)
	}
	file.Definitions["placeholder"] = &jsonschema.Schema{
		Type: "string", Pattern: placeholder,
		Description: "A variable of the matrix or a part of a prediction stands here.",
	}
	row := &jsonschema.Schema{Type: "integer", Minimum: "1", Maximum: json.Number(fmt.Sprint(MaxRow))}
	set(file, "rows", some(orPlaceholder(row)))
	set(file, "targets", some(oneOfWords(Targets)))

	condition := file.Definitions["Condition"]
	condition.MinProperties = new(uint64(1))
	for field, allowed := range conditionWords {
		set(condition, field, oneOfWords(allowed))
	}
	step := file.Definitions["Step"]
	step.MinProperties, step.MaxProperties = new(uint64(1)), new(uint64(1))
	set(step, "apiserver", oneOfWords(apiserverVerbs))
	set(step, "queue", oneOfWords(queueVerbs))
	set(step, "network", &jsonschema.Schema{AnyOf: slices.Concat(
		oneOfWords(networkVerbs).AnyOf, duration().AnyOf[:1])})
	set(step, "signal", &jsonschema.Schema{Type: "object", AdditionalProperties: oneOfWords(signals)})
	set(file.Definitions["Submit"], "timeout", duration())

	// A map may be a plain text instead.
	object := file.Definitions["Map"]
	file.Definitions["Map"] = &jsonschema.Schema{
		Description: object.Description,
		AnyOf:       []*jsonschema.Schema{{Type: "string"}, object},
	}
	for _, field := range []string{"exclude", "include"} {
		set(file, field, some(&jsonschema.Schema{Type: "object", AdditionalProperties: scalar()}))
	}
}
