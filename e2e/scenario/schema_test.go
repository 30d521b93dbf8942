package scenario_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/studioml/studio-go-runner/e2e/engine"
)

const schemaFile = "../../scenarios/schema.json"

func TestSchemaFile(t *testing.T) {
	t.Chdir("../..")
	got, err := engine.Format.Schema("e2e/scenario", "e2e/engine", "e2e/network")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("e2e/scenario")
	golden(t, schemaFile, string(got))
}

// An editor that goes by the schema has nothing to say against any scenario.
func TestSchemaAcceptsScenarios(t *testing.T) {
	schema := compiled(t)
	for _, file := range append(glob(t, "../../scenarios/*/*.yaml"), every) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(document(t, string(text))); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		relative, _ := filepath.Rel(filepath.Dir(file), schemaFile)
		if want := "# yaml-language-server: $schema=" + filepath.ToSlash(relative); first != want {
			t.Errorf("%s: the first line is %q, want %q, which gives editors the schema", file, first, want)
		}
	}
}

func TestSchemaRefuses(t *testing.T) {
	const good = `name: x
rows: [1]
targets: [embedded]
timeout: 30s
maps: {global: Running}
runners: {a: {slots: 3}}
steps:
  - expect: {a: {phase: Running, running: 3, live: true}}
  - network: 500ms
`
	schema := compiled(t)
	if err := schema.Validate(document(t, good)); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{"name: x\n", ""},
		{"name: x", "nam: x"},
		{"rows: [1]", "rows: []"},
		{"rows: [1]", "rows: [91]"},
		{"[embedded]", "[embeded]"},
		{"timeout: 30s", "timeout: 30"},
		{"timeout: 30s", "timeout: soon"},
		{"global: Running", "global: true"},
		{"global: Running", "global: {dat: {}}"},
		{"slots: 3", `slots: "3"`},
		{"slots: 3", "slot: 3"},
		{"phase: Running", "phase: running"},
		{"running: 3", "running: three"},
		{"live: true", "live: ${"},
		{"{phase: Running, running: 3, live: true}", "{}"},
		{"  - network: 500ms", "  - {}"},
		{"  - network: 500ms", "  - {network: cut, queue: hide}"},
		{"network: 500ms", "network: never"},
		{"network: 500ms", "matrix: {}"},
		{"network: 500ms", "signal: {a: SIGTERM}"},
	} {
		text := strings.Replace(good, change[0], change[1], 1)
		if text == good {
			t.Fatalf("%s is not in the good file", change[0])
		}
		if schema.Validate(document(t, strings.ReplaceAll(text, "${", `"${"`))) == nil {
			t.Errorf("%s instead of %s is accepted", change[1], change[0])
		}
	}
}

func TestSchemaHasComments(t *testing.T) {
	text, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var s any
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	described(t, "schema", s)
}

// described looks for what an editor could say nothing about, at every depth.
func described(t *testing.T, at string, v any) {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		for key, below := range v {
			at := at + "." + key
			if all, ok := below.(map[string]any); ok && (key == "properties" || key == "$defs") {
				for name, one := range all {
					if one.(map[string]any)["description"] == nil {
						t.Errorf("%s.%s has no description", at, name)
					}
				}
			}
			described(t, at, below)
		}
	case []any:
		for i, below := range v {
			described(t, fmt.Sprintf("%s[%d]", at, i), below)
		}
	}
}

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// document turns YAML into what a JSON schema is about.
func document(t *testing.T, text string) any {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	value, err = jsonschema.UnmarshalJSON(strings.NewReader(string(asJSON)))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func glob(t testing.TB, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	return files
}
