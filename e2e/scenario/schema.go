package scenario

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
)

// placeholder is a text with a ${…} in it, which can stand in for a number, a
// truth value or one of a few words: an editor sees a file before it is expanded.
const placeholder = `\$\{[^}]+\}`

// schemas makes the schemas of the types of a format, from what they are decoded by.
type schemas struct {
	format   *Format
	comments map[string]string // by directory, type and field
	// definitions are those of the types that stand in many places.
	definitions jsonschema.Definitions
}

// Schema returns the JSON schema of a scenario file, for editors. The
// descriptions of fields are the comments in the format's sources below root.
func (f *Format) Schema(root string) ([]byte, error) {
	s := &schemas{format: f, comments: map[string]string{}, definitions: jsonschema.Definitions{
		"placeholder": {Type: "string", Pattern: placeholder, Description: "A variable of the matrix or a part of a prediction stands here."},
	}}
	for _, sources := range f.Sources {
		if err := s.readComments(root, sources); err != nil {
			return nil, fmt.Errorf("read comments for the schema: %w", err)
		}
	}
	file := s.object(reflect.TypeFor[File]())
	file.Version, file.Title, file.Definitions = jsonschema.Version, "A scenario of studio-go-runner", s.definitions
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write schema: %w", err)
	}
	return append(text, '\n'), nil
}

// readComments keeps the comments on the types in a directory and on their fields.
func (s *schemas) readComments(root, sources string) error {
	packages, err := filepath.Glob(filepath.Join(root, sources, "*.go"))
	for _, name := range packages {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			decl, ok := n.(*ast.GenDecl)
			if !ok || decl.Tok != token.TYPE {
				return true
			}
			for _, spec := range decl.Specs {
				t := spec.(*ast.TypeSpec)
				name := sources + "." + t.Name.Name
				s.comments[name] = decl.Doc.Text() + t.Doc.Text()
				if fields, ok := t.Type.(*ast.StructType); ok {
					for _, f := range fields.Fields.List {
						for _, field := range f.Names {
							s.comments[name+"."+field.Name] = f.Doc.Text()
						}
					}
				}
			}
			return false
		})
	}
	return err
}

// of returns the schema of a type, as files write it.
func (s *schemas) of(t reflect.Type) *jsonschema.Schema {
	if w, ok := reflect.Zero(t).Interface().(words); ok {
		return oneOfWords(w.Words())
	}
	switch t {
	case reflect.TypeFor[Matrix]():
		return &jsonschema.Schema{Type: "object", AdditionalProperties: &jsonschema.Schema{
			Type: "array", Items: scalar(), MinItems: new(uint64(1)), UniqueItems: true}}
	case reflect.TypeFor[Combination]():
		return &jsonschema.Schema{Type: "object", AdditionalProperties: scalar()}
	case reflect.TypeFor[Duration]():
		return orPlaceholder(&jsonschema.Schema{Type: "string", Pattern: `^([0-9]*\.?[0-9]+(ns|us|µs|ms|s|m|h))+$`})
	case reflect.TypeFor[Row]():
		return orPlaceholder(&jsonschema.Schema{Type: "integer", Minimum: "1", Maximum: json.Number(fmt.Sprint(int(MaxRow)))})
	case reflect.TypeFor[Step]():
		return s.define("Step", s.step)
	case reflect.TypeFor[Condition]():
		return s.define("Condition", s.condition)
	case reflect.TypeFor[Map]():
		return s.define("Map", func() *jsonschema.Schema { return s.orText(t, &jsonschema.Schema{Type: "string"}) })
	case reflect.TypeFor[Network]():
		return s.define("Network", func() *jsonschema.Schema {
			return s.orText(t, append(oneOfWords(networkModes).AnyOf, s.of(reflect.TypeFor[Duration]()).AnyOf[0])...)
		})
	}
	switch t.Kind() {
	case reflect.Int:
		return orPlaceholder(&jsonschema.Schema{Type: "integer"})
	case reflect.Bool:
		return orPlaceholder(&jsonschema.Schema{Type: "boolean"})
	case reflect.Slice:
		return &jsonschema.Schema{Type: "array", Items: s.of(t.Elem()), MinItems: new(uint64(1)), UniqueItems: isScalar(t.Elem())}
	case reflect.Map:
		return &jsonschema.Schema{Type: "object", AdditionalProperties: s.of(t.Elem()), MinProperties: new(uint64(1))}
	case reflect.Struct:
		if !token.IsExported(t.Name()) {
			return s.object(t) // of one verb
		}
		return s.define(t.Name(), func() *jsonschema.Schema { return s.object(t) })
	default:
		return &jsonschema.Schema{Type: "string"}
	}
}

// define keeps the schema of a type that refers to itself or stands in many
// places, and returns a reference to it.
func (s *schemas) define(name string, make func() *jsonschema.Schema) *jsonschema.Schema {
	if s.definitions[name] == nil {
		s.definitions[name] = &jsonschema.Schema{} // while it is made
		*s.definitions[name] = *make()
	}
	return &jsonschema.Schema{Ref: "#/$defs/" + name}
}

// object is a struct, with what the tags of its fields say.
func (s *schemas) object(t reflect.Type) *jsonschema.Schema {
	object := fields(s.comment(t, ""))
	for _, f := range fieldsOf(t) {
		property := *s.of(t.Field(f.index).Type)
		property.Description = s.comment(t, "."+t.Field(f.index).Name)
		number := func(rule string) (n json.Number) {
			if bound, ok := f.rules[rule]; ok {
				n = json.Number(fmt.Sprint(bound))
			}
			return n
		}
		if len(property.AnyOf) > 0 {
			property.AnyOf[0].Minimum, property.AnyOf[0].Maximum = number("minimum"), number("maximum")
		}
		for rule, into := range map[string]**uint64{"minLength": &property.MinLength, "maxLength": &property.MaxLength} {
			if bound, ok := f.rules[rule]; ok {
				*into = new(uint64(bound))
			}
		}
		if n, ok := f.rules["default"]; ok {
			property.Default = n
		} else if f.standard != "" {
			property.Default = f.standard
		}
		object.Properties.Set(f.name, &property)
		if f.required {
			object.Required = append(object.Required, f.name)
		}
	}
	return object
}

// comment is that of a type, or of a field of it.
func (s *schemas) comment(t reflect.Type, field string) string {
	for _, sources := range s.format.Sources {
		if strings.HasSuffix(t.PkgPath(), sources) {
			return strings.Join(strings.Fields(s.comments[sources+"."+t.Name()+field]), " ")
		}
	}
	return ""
}

// orText is a struct that may also be one of some texts.
func (s *schemas) orText(t reflect.Type, texts ...*jsonschema.Schema) *jsonschema.Schema {
	object := s.object(t)
	description := object.Description
	object.Description = ""
	return &jsonschema.Schema{Description: description, AnyOf: append(texts, object)}
}

// step has one verb.
func (s *schemas) step() *jsonschema.Schema {
	step := fields("One thing that is done or waited for.")
	step.MinProperties, step.MaxProperties = new(uint64(1)), new(uint64(1))
	for _, v := range s.format.Verbs {
		s.property(step, v.Name, v.Doc, v.Type, v.Words)
	}
	return step
}

// condition has one or more facts.
func (s *schemas) condition() *jsonschema.Schema {
	condition := fields("What a subject must show.")
	condition.MinProperties = new(uint64(1))
	for _, f := range s.format.Facts {
		s.property(condition, f.Name, f.Doc, f.Type, f.Words)
	}
	return condition
}

func (s *schemas) property(of *jsonschema.Schema, name, doc string, t reflect.Type, words []string) {
	property := *s.of(t)
	if words != nil {
		property = *oneOfWords(words)
	}
	property.Description = doc
	of.Properties.Set(name, &property)
}

// fields is an object that has only the fields that will be added.
func fields(description string) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "object", Description: description,
		Properties: jsonschema.NewProperties(), AdditionalProperties: jsonschema.FalseSchema}
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
