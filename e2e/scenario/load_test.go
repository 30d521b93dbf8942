package scenario_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// parse reads a file that must be right; lines are put below a head of five lines.
func parse(t *testing.T, lines string) []scenario.Scenario {
	t.Helper()
	all, err := engine.Format.Parse("area/file.yaml", []byte(head+lines))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const head = `rows: [1]
targets: [embedded]
runners:
  a: {}
  b: {}
`

const tail = `
steps:
  - expect: {a: {live: true}}
`

func TestMatrixOrder(t *testing.T) {
	all := parse(t, `name: ${z} ${a}
matrix:
  z:
    - one
    - two
    - ""
  a: [1, true, "01"]
exclude:
  - {z: two, a: 1}
  - {z: one, a: true}
include:
  - {z: three, a: more}
maps: {global: "${z}${a}"}
`+tail)
	want := []string{
		"9 one 1", "9 one 01",
		"10 two true", "10 two 01",
		`11 "" 1`, `11 "" true`, `11 "" 01`,
		"17 three more",
	}
	var got []string
	for _, s := range all {
		got = append(got, fmt.Sprintf("%d %s", s.Line, s.Name))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines and names, want - got +\n%s", diff)
	}
	if diff := cmp.Diff(scenario.Combination{"z": "two", "a": true}, all[2].Values); diff != "" {
		t.Errorf("values, want - got +\n%s", diff)
	}
	if got := all[0].Location() + " " + all[0].Area; got != "area/file.yaml:9 area" {
		t.Errorf("location and area are %s", got)
	}
}

// Variables stand for numbers, truth values, durations, words and keys alike,
// and an include alone is a table of cases.
func TestPlaceholders(t *testing.T) {
	all := parse(t, `name: case ${n}
include:
  - {n: 3, yes: true, d: 90s, subject: a, text: 'a "quoted" # text'}
  - {n: 4, yes: false, d: 2m, subject: global, text: "0"}
timeout: ${d}
maps: {"${subject}": "${text}"}
tasks: [{group: g, count: "${n}", hold: "${yes}"}]
steps:
  - expect: {tasks/g: {left: "${n}"}, a: {live: "${yes}"}}
`)
	s := all[0]
	if got, want := s.Timeout, scenario.Duration(90*time.Second); got != want {
		t.Errorf("timeout %s, want %s", got, want)
	}
	wantTasks := []scenario.Submit{{Group: "g", Count: 3, Hold: true}}
	if diff := cmp.Diff(wantTasks, s.Tasks); diff != "" {
		t.Errorf("tasks, want - got +\n%s", diff)
	}
	wantMaps := map[scenario.MapName]scenario.Map{"a": {Data: map[string]string{"STATE": `a "quoted" # text`}}}
	if diff := cmp.Diff(wantMaps, s.Maps); diff != "" {
		t.Errorf("maps, want - got +\n%s", diff)
	}
	wantExpect := scenario.Conditions{"tasks/g": {"left": 3}, "a": {"live": true}}
	if diff := cmp.Diff(wantExpect, s.Steps[0].Value); diff != "" {
		t.Errorf("expect, want - got +\n%s", diff)
	}
	if _, ok := all[1].Maps["global"]; !ok || all[1].Steps[0].Value.(scenario.Conditions)["a"]["live"] != false {
		t.Errorf("the second case is %+v", all[1].File)
	}
}

func TestPredict(t *testing.T) {
	all := parse(t, `name: ${g}
matrix: {g: [bogus, Running, DrainAndSuspend]}
predict:
  want: {global: "${g}", node: DrainAndTerminate}
  alone: {global: "${g}", node: keyless}
steps:
  - await:
      a: {phase: "${want.phase}", effective: "${want.effective}", source: "${want.source}", shadowed: "${want.shadowed}"}
      b: {phase: "${alone.phase}", effective: "${alone.effective}", source: "${alone.source}", shadowed: "${alone.shadowed}"}
`)
	a := scenario.Condition{"phase": "Terminated", "effective": "DrainAndTerminate", "source": "node"}
	want := []scenario.Conditions{
		{"a": a, "b": {"phase": "Running", "effective": "Running", "source": "default", "shadowed": "none"}},
		{"a": a, "b": {"phase": "Running", "effective": "Running", "source": "global", "shadowed": "none"}},
		{"a": a, "b": {"phase": "Suspended", "effective": "DrainAndSuspend", "source": "global", "shadowed": "none"}},
	}
	for i, shadowed := range []string{"none", "Running", "DrainAndSuspend"} {
		want[i]["a"] = maps.Clone(a)
		want[i]["a"]["shadowed"] = shadowed
		if diff := cmp.Diff(want[i], all[i].Steps[0].Value); diff != "" {
			t.Errorf("%s: await, want - got +\n%s", all[i].Name, diff)
		}
	}
}

func TestMapForms(t *testing.T) {
	tests := []struct {
		text string
		want scenario.Map
	}{
		{"absent", scenario.Map{Absent: true}},
		{`""`, scenario.Map{Data: map[string]string{"STATE": ""}}},
		{"Running", scenario.Map{Data: map[string]string{"STATE": "Running"}}},
		{`"Running\n"`, scenario.Map{Data: map[string]string{"STATE": "Running\n"}}},
		{`"true"`, scenario.Map{Data: map[string]string{"STATE": "true"}}},
		{"{}", scenario.Map{}},
		{"{data: {STATE: x}, immutable: true}", scenario.Map{Data: map[string]string{"STATE": "x"}, Immutable: true}},
	}
	for _, tt := range tests {
		s := parse(t, "name: maps\nmaps:\n  global: "+tt.text+tail)[0]
		if diff := cmp.Diff(tt.want, s.Maps["global"]); diff != "" {
			t.Errorf("%s: want - got +\n%s", tt.text, diff)
		}
	}
	keyless := parse(t, "name: maps\nmaps: {global: keyless}"+tail)[0].Maps["global"]
	if _, ok := keyless.Data["STATE"]; ok || keyless.Absent || len(keyless.Data) == 0 {
		t.Errorf("keyless is %+v, want a map with another key than STATE", keyless)
	}
}

func TestDefaultsAndLines(t *testing.T) {
	s := parse(t, `name: defaults
tasks:
  - group: early
steps:
  - submit: {group: late}

  # a comment
  -
    expect:
      a: {live: true}
`)[0]
	if s.Timeout != scenario.Duration(2*time.Minute) || s.Permissions != scenario.PermissionsShipped {
		t.Errorf("timeout %s, permissions %s", s.Timeout, s.Permissions)
	}
	if s.Tasks[0].Count != 1 || s.Steps[0].Value.(scenario.Submit).Count != 1 || s.Runners["a"].Slots != 4 {
		t.Errorf("counts %d and %d, slots %d; want 1, 1 and 4",
			s.Tasks[0].Count, s.Steps[0].Value.(scenario.Submit).Count, s.Runners["a"].Slots)
	}
	if got, want := []int{s.Line, s.Steps[0].Line, s.Steps[1].Line}, []int{6, 10, 14}; !cmp.Equal(got, want) {
		t.Errorf("lines %v, want %v", got, want)
	}
}

// every is a file that sets every field of the format.
const every = "testdata/good/every/step.yaml"

func TestEveryFieldIsRead(t *testing.T) {
	all, err := engine.Format.Load(every)
	if err != nil {
		t.Fatal(err)
	}
	// What the expansion uses up is not left in the result.
	missing := map[string]bool{}
	unset(reflect.ValueOf(all[0].File), "File", missing)
	for _, name := range []string{"File.Matrix", "File.Exclude", "File.Include", "File.Predict"} {
		if !missing[name] {
			t.Errorf("%s is set", name)
		}
		delete(missing, name)
	}
	for name := range missing {
		t.Errorf("%s is set nowhere in %s", name, every)
	}
	verbs, facts := map[string]bool{}, map[string]bool{}
	for _, s := range all[0].Steps {
		verbs[s.Verb] = true
	}
	for _, that := range scenario.Actions[scenario.Conditions](all[0].Steps) {
		for _, condition := range that {
			for name := range condition {
				facts[name] = true
			}
		}
	}
	for _, v := range engine.Format.Verbs {
		if !verbs[v.Name] {
			t.Errorf("no step in %s does %s", every, v.Name)
		}
	}
	for _, f := range engine.Format.Facts {
		if !facts[f.Name] {
			t.Errorf("no condition in %s asks for %s", every, f.Name)
		}
	}
}

// unset notes the fields of structs that are zero in all values of their type.
func unset(v reflect.Value, name string, missing map[string]bool) {
	set := map[string]bool{}
	var visit func(v reflect.Value)
	visit = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				visit(v.Elem())
			}
		case reflect.Slice:
			for i := range v.Len() {
				visit(v.Index(i))
			}
		case reflect.Interface:
			if !v.IsNil() {
				visit(v.Elem())
			}
		case reflect.Map:
			for _, key := range v.MapKeys() {
				visit(v.MapIndex(key))
			}
		case reflect.Struct:
			for i := range v.NumField() {
				field := v.Type().Name() + "." + v.Type().Field(i).Name
				set[field] = set[field] || !v.Field(i).IsZero()
				visit(v.Field(i))
			}
		}
	}
	visit(v)
	for field, is := range set {
		if !is {
			missing[field] = true
		}
	}
}

func TestDurationAsText(t *testing.T) {
	got, err := json.Marshal(scenario.Duration(1500 * time.Millisecond))
	if want := `"1.5s"`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

// FuzzParse holds that no text makes Parse panic, that errors name the file,
// and that nothing is left to replace in what is accepted.
func FuzzParse(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := engine.Format.Parse("area/file.yaml", text)
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(line, "area/file.yaml") {
					t.Errorf("error %q does not begin with the file's name", line)
				}
			}
			if len(all) > 0 {
				t.Errorf("%d scenarios beside the error %v", len(all), err)
			}
			return
		}
		if len(all) == 0 {
			t.Error("neither a scenario nor an error")
		}
		named := map[string]bool{}
		for _, s := range all {
			if document, err := json.Marshal(s.File); err != nil || strings.Contains(string(document), "${") {
				t.Errorf("%s, %v", document, err)
			}
			if named[s.Name] || s.Line < 1 || len(s.Steps) == 0 || s.Steps[0].Line < 1 {
				t.Errorf("%s at line %d is not usable", s.Name, s.Line)
			}
			named[s.Name] = true
		}
	})
}

func seeds(f *testing.F) [][]byte {
	var all [][]byte
	files := append(glob(f, "testdata/bad/*.yaml"), glob(f, "../../scenarios/*/*.yaml")...)
	for _, file := range append(files, every) {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, text)
	}
	return all
}
