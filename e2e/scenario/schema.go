package scenario

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
)

// placeholder is a text with a ${…} in it, which can stand in for a number, a
// truth value or one of a few words: an editor sees a file before it is expanded.
const placeholder = `\$\{[^}]+\}`

// Schema returns the JSON schema of a scenario file, for editors. The
// descriptions of fields are the comments in the format's sources below root.
func (f *Format) Schema(root string) ([]byte, error) {
	s := &schemas{format: f}
	s.reflector = &jsonschema.Reflector{ExpandedStruct: true, Anonymous: true, Mapper: s.unlikeGo}
	for _, sources := range f.Sources {
		if err := s.reflector.AddGoComments("", filepath.Join(root, sources), jsonschema.WithFullComment()); err != nil {
			return nil, fmt.Errorf("read comments for the schema: %w", err)
		}
	}
	s.reflector.LookupComment = func(t reflect.Type, name string) string {
		// Comments are stored by directory, and that is the end of the package's path.
		for _, sources := range f.Sources {
			if !strings.HasSuffix(t.PkgPath(), sources) {
				continue
			}
			key := filepath.ToSlash(filepath.Join(root, sources)) + "." + t.Name()
			if name != "" {
				key += "." + name
			}
			return strings.Join(strings.Fields(s.reflector.CommentMap[key]), " ")
		}
		return ""
	}
	file := s.reflect(reflect.TypeFor[File]())
	file.Version = jsonschema.Version
	file.Title = "A scenario of studio-go-runner"
	file.Definitions = s.definitions
	file.Definitions["placeholder"] = &jsonschema.Schema{
		Type: "string", Pattern: placeholder,
		Description: "A variable of the matrix or a part of a prediction stands here.",
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write schema: %w", err)
	}
	return append(text, '\n'), nil
}

// schemas makes the schemas of the types of a format.
type schemas struct {
	format      *Format
	reflector   *jsonschema.Reflector
	definitions jsonschema.Definitions
}

// reflect returns the schema of a type, with what its fields' tags say.
func (s *schemas) reflect(t reflect.Type) *jsonschema.Schema {
	if special := s.unlikeGo(t); special != nil {
		return special
	}
	schema := s.reflector.ReflectFromType(t)
	schema.Version = ""
	if s.definitions == nil {
		s.definitions = jsonschema.Definitions{}
	}
	definitions := schema.Definitions
	schema.Definitions = nil
	for name, d := range definitions {
		if _, known := s.definitions[name]; !known {
			s.definitions[name] = d
		}
	}
	s.narrow(t, schema)
	return schema
}

// narrow adds what the tags of a struct's fields say, at every depth.
func (s *schemas) narrow(t reflect.Type, schema *jsonschema.Schema) {
	if t.Kind() != reflect.Struct || schema == nil || schema.Properties == nil {
		return
	}
	for _, f := range fieldsOf(t) {
		property, ok := schema.Properties.Get(f.name)
		if !ok {
			continue
		}
		below := t.Field(f.index).Type
		value := property
		if len(property.AnyOf) > 0 {
			value = property.AnyOf[0]
		}
		if low, ok := f.rules["minimum"]; ok {
			value.Minimum = json.Number(fmt.Sprint(low))
		}
		if high, ok := f.rules["maximum"]; ok {
			value.Maximum = json.Number(fmt.Sprint(high))
		}
		switch below.Kind() {
		case reflect.Slice:
			property.MinItems = new(uint64(1))
			below = below.Elem()
			property.UniqueItems = isReference(below)
		case reflect.Map:
			property.MinProperties = new(uint64(1))
			below = below.Elem()
		}
		if f.standard != "" {
			property.Default = f.standard
			if n, ok := f.rules["default"]; ok && below.Kind() == reflect.Int {
				property.Default = n
			}
		}
		s.narrow(below, s.definitions[below.Name()])
	}
}

// unlikeGo returns the schemas of the types that files write in another way
// than Go does.
func (s *schemas) unlikeGo(t reflect.Type) *jsonschema.Schema {
	if w, ok := reflect.Zero(t).Interface().(words); ok && t.Kind() == reflect.String {
		return oneOfWords(w.Words())
	}
	switch t {
	case reflect.TypeFor[Matrix]():
		return &jsonschema.Schema{Type: "object", AdditionalProperties: &jsonschema.Schema{
			Type: "array", Items: scalar(), MinItems: new(uint64(1)), UniqueItems: true}}
	case reflect.TypeFor[map[string]string]():
		return &jsonschema.Schema{Type: "object", AdditionalProperties: &jsonschema.Schema{Type: "string"}}
	case reflect.TypeFor[[]map[string]string]():
		return &jsonschema.Schema{Type: "array", Items: &jsonschema.Schema{Type: "object", AdditionalProperties: scalar()}}
	case reflect.TypeFor[Duration]():
		return duration()
	case reflect.TypeFor[Row]():
		return orPlaceholder(&jsonschema.Schema{Type: "integer", Minimum: "1", Maximum: json.Number(fmt.Sprint(int(MaxRow)))})
	case reflect.TypeFor[Step]():
		return s.step()
	case reflect.TypeFor[Condition]():
		return s.condition()
	case reflect.TypeFor[Map]():
		return s.orText(t, &jsonschema.Schema{Type: "string"})
	case reflect.TypeFor[Network]():
		return s.orText(t, append(oneOfWords(networkModes).AnyOf, duration().AnyOf[0])...)
	}
	switch t.Kind() {
	case reflect.Int:
		return orPlaceholder(&jsonschema.Schema{Type: "integer"})
	case reflect.Bool:
		return orPlaceholder(&jsonschema.Schema{Type: "boolean"})
	}
	return nil
}

// define keeps the schema of a type that refers to itself or stands in many
// places, and returns a reference to it.
func (s *schemas) define(name string, make func() *jsonschema.Schema) *jsonschema.Schema {
	if s.definitions == nil {
		s.definitions = jsonschema.Definitions{}
	}
	if _, known := s.definitions[name]; !known {
		s.definitions[name] = &jsonschema.Schema{} // while it is made
		*s.definitions[name] = *make()
	}
	return &jsonschema.Schema{Ref: "#/$defs/" + name}
}

// orText is a struct that may also be one of some texts.
func (s *schemas) orText(t reflect.Type, texts ...*jsonschema.Schema) *jsonschema.Schema {
	return s.define(t.Name(), func() *jsonschema.Schema {
		plain := &jsonschema.Reflector{ExpandedStruct: true, Anonymous: true, LookupComment: s.reflector.LookupComment,
			Mapper: func(below reflect.Type) *jsonschema.Schema {
				if below == t {
					return nil
				}
				return s.unlikeGo(below)
			}}
		object := plain.ReflectFromType(t)
		object.Version = ""
		s.narrow(t, object)
		description := object.Description
		object.Description = ""
		return &jsonschema.Schema{Description: description, AnyOf: append(texts, object)}
	})
}

// step has one verb.
func (s *schemas) step() *jsonschema.Schema {
	return s.define("Step", func() *jsonschema.Schema {
		step := &jsonschema.Schema{Type: "object", Description: "One thing that is done or waited for.",
			Properties: jsonschema.NewProperties(), AdditionalProperties: jsonschema.FalseSchema,
			MinProperties: new(uint64(1)), MaxProperties: new(uint64(1))}
		for _, v := range s.format.Verbs {
			property := *s.reflect(v.Type)
			property.Description = v.Doc
			step.Properties.Set(v.Name, &property)
		}
		return step
	})
}

// condition has one or more facts.
func (s *schemas) condition() *jsonschema.Schema {
	return s.define("Condition", func() *jsonschema.Schema {
		condition := &jsonschema.Schema{Type: "object", Description: "What a subject must show.",
			Properties: jsonschema.NewProperties(), AdditionalProperties: jsonschema.FalseSchema, MinProperties: new(uint64(1))}
		for _, f := range s.format.Facts {
			property := *s.reflect(f.Type)
			if f.Words != nil {
				property = *oneOfWords(f.Words)
			}
			property.Description = f.Doc
			condition.Properties.Set(f.Name, &property)
		}
		return condition
	})
}

func orPlaceholder(s *jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{s, {Ref: "#/$defs/placeholder"}}}
}

// scalar is a value of a matrix, which is taken as text whatever it looks like.
func scalar() *jsonschema.Schema {
	return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}, {Type: "boolean"}}}
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
