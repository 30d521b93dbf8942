package main

import (
	"bytes"
	"debug/elf"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRowsAreMeasured(t *testing.T) {
	plan, err := load()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("../..")
	if _, err := packagesOf(plan.benchmarks(nil)); err != nil {
		t.Error(err)
	}
	known := make(map[string]bool)
	for _, name := range plan.benchmarks(nil) {
		known[name] = true
	}
	for _, p := range plan.Pictures {
		for _, s := range p.Series {
			before, after, found := strings.Cut(s.Of.benchmark(), "*")
			if !slices.ContainsFunc(slices.Collect(maps.Keys(known)), func(name string) bool {
				return name == before && !found || found && strings.HasPrefix(name, before) && strings.HasSuffix(name, after)
			}) {
				t.Errorf("%s: no row measures what %q draws", p.File, s.Of)
			}
		}
	}
}

// What the runner links, and nothing else, has a purpose in the table.
func TestDependenciesAreJustified(t *testing.T) {
	plan, err := load()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "list", "-deps", "-f", linkedForm, "../../runner").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := plan.addUp(string(out), nil, 0, ""); err != nil {
		t.Error(err)
	}
	for path := range plan.Dependencies {
		if !strings.Contains(string(out), path+" ") {
			t.Errorf("rows.yaml says what %s is for, which the runner does not use", path)
		}
	}
}

func TestReadsWhatGoTestPrints(t *testing.T) {
	results := Results{}
	err := results.read(strings.NewReader(`goos: linux
BenchmarkFleet/runners=100-2 	       3	 40 ns/op	        11.90 last-ms	        300 cpu-ns/call
BenchmarkOne 	       1	 0.5 MB/s
--- FAIL: BenchmarkTwo
    some_test.go:1: no
FAIL
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Results{"Fleet/runners=100 ns/op": new(40.0), "Fleet/runners=100 last-ms": new(11.9), "Fleet/runners=100 cpu-ns/call": new(300.0), "One MB/s": new(0.5)}
	if diff := cmp.Diff(want, results); diff != "" {
		t.Error(diff)
	}
}

func TestPatternIsExact(t *testing.T) {
	if got, want := pattern([]string{"A", "B/x.y=1/z"}), `^BenchmarkA$|^BenchmarkB$/^x\.y=1$/^z$`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestVerdicts(t *testing.T) {
	results := Results{"Ours ms": new(6.0), "Theirs ms": new(4.0), "Floor ms": new(5.0), "Low ms": new(1.0), "Rate n/s": new(50.0), "Best n/s": new(60.0)}
	for _, test := range []struct {
		row   Row
		ratio string
		want  string
	}{
		{Row{Ours: "Ours ms"}, "–", unjudged},
		{Row{Ours: "Ours ms", Goal: "≤ 6"}, "–", met},
		{Row{Ours: "Ours ms", Goal: "≤ 5.9"}, "–", notMet},
		{Row{Ours: "Ours ms", Goal: "≤ 5.9", Limit: "Floor ms"}, "–", limited},
		{Row{Ours: "Ours ms", Goal: "≤ 5.9", Limit: "Low ms"}, "–", notMet},
		{Row{Ours: "Ours ms", Theirs: "Theirs ms", Goal: "≤ 1.5 × peer"}, "1.50", met},
		{Row{Ours: "Ours ms", Theirs: "Theirs ms", Goal: "≤ 1.25 × peer"}, "1.50", notMet},
		{Row{Ours: "Ours ms", Theirs: "Theirs ms", Goal: "≥ 2 × peer"}, "1.50", notMet},
		{Row{Ours: "Rate n/s", Goal: "≥ 100", Limit: "Best n/s"}, "–", limited},
		{Row{Ours: "Ours ms", Theirs: "Lacking ms", Goal: "≤ 1.5 × peer"}, "–", unjudged},
		{Row{Ours: "Lacking ms", Goal: "≤ 1.5"}, "–", unjudged},
	} {
		l := (&Plan{Rows: []Row{test.row}}).lines(results, nil)[0]
		if figure(l.Ratio) != test.ratio || l.Verdict != test.want {
			t.Errorf("%+v: ratio %s, %s; want %s, %s", test.row, figure(l.Ratio), l.Verdict, test.ratio, test.want)
		}
	}
}

func TestPeersThatAreMissing(t *testing.T) {
	plan := &Plan{Rows: []Row{{Name: "r", Ours: "Ours ms", Goal: "≤ 1", Peer: "tsp", Theirs: "Theirs ms", Needs: Program{"tsp", "task-spooler"}}}}
	missing := plan.missing(func(string) bool { return false })
	if got := plan.benchmarks(missing); !slices.Equal(got, []string{"Ours"}) {
		t.Errorf("without the peer %v are measured", got)
	}
	alone := &Plan{Rows: []Row{{Name: "r", Ours: "Ours n", Needs: Program{"strace", "strace"}}}}
	if got := alone.benchmarks(alone.missing(func(string) bool { return false })); len(got) > 0 {
		t.Errorf("without what it needs, %v is measured", got)
	}
	if got := plan.benchmarks(nil); !slices.Equal(got, []string{"Ours", "Theirs"}) {
		t.Errorf("with the peer %v are measured", got)
	}
	var table bytes.Buffer
	if err := printTable(&table, plan.lines(Results{"Ours ms": new(1234.5)}, missing), true); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(table.String(), met) {
		t.Errorf("the short form judges:\n%s", &table)
	}
	for _, want := range []string{"1234 ms", "apt-get install task-spooler", "figures mean nothing"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &table)
		}
	}
}

func TestFigures(t *testing.T) {
	for value, want := range map[float64]string{0: "0.00", 0.04567: "0.0457", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 12345: "12345", 0.00001: "0.0000"} {
		if got := figure(&value); got != want {
			t.Errorf("%g: %s, want %s", value, got, want)
		}
	}
}

// The page and its pictures are put together from results of any kind, none included.
func TestPage(t *testing.T) {
	plan, err := load()
	if err != nil {
		t.Fatal(err)
	}
	results := Results{}
	for i, r := range plan.Rows[1:] {
		results[r.Ours] = new(float64(i + 1))
	}
	lines := plan.lines(results, nil)
	page := &Page{Plan: plan, Machine: []Fact{{"processor", "2 × something"}}, Modules: []Module{{Path: "example.org/m", For: "a test", Bytes: 4096}}, Lines: lines}
	dir := t.TempDir()
	if err := page.write(dir, results); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, want := range []string{"| processor | 2 × something |", "| example.org/m | 4 |", plan.Rows[0].Name, plan.Rows[1].Says} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, p := range plan.Pictures {
		if _, err := os.Stat(filepath.Join(dir, p.File)); err != nil || !strings.Contains(text, "("+p.File+")") {
			t.Errorf("the page does not show %s: %v", p.File, err)
		}
	}
	for _, l := range lines {
		if !strings.Contains(text, "(#"+l.Anchor()+")") || strings.Count(text, `<a id="`+l.Anchor()+`">`) != 1 {
			t.Errorf("row %q has no anchor of its own", l.Name)
		}
	}
}

func TestPictures(t *testing.T) {
	p := Picture{File: "f.svg", Title: "a < b", Series: []Series{{"ours", "Fleet/runners=* last-ms"}, {"others", "Bare/runners=* last-ms"}}}
	for name, test := range map[string]struct {
		results Results
		circles int
		has     string
	}{
		"nothing":  {Results{}, 0, "a &lt; b"},
		"one":      {Results{"Fleet/runners=100 last-ms": new(5.0)}, 1, ">100<"},
		"two":      {Results{"Fleet/runners=100 last-ms": new(5.0), "Fleet/runners=5000 last-ms": new(500.0), "Bare/runners=5000 last-ms": new(50.0)}, 3, `<circle class="s1" cx="560"`},
		"not it":   {Results{"Fleet/runners=100 first-ms": new(5.0), "Fleet/runners=x last-ms": new(5.0)}, 0, ""},
		"not high": {Results{"Fleet/runners=100 last-ms": new(0.0)}, 0, ""},
	} {
		var out bytes.Buffer
		if err := p.draw(&out, test.results); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(out.String(), "<circle"); got != test.circles || !strings.Contains(out.String(), test.has) {
			t.Errorf("%s: %d points, want %d, and %q:\n%s", name, got, test.circles, test.has, &out)
		}
		for decoder := xml.NewDecoder(&out); ; {
			if _, err := decoder.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

func TestCostsAreAddedUp(t *testing.T) {
	plan := &Plan{Dependencies: map[string]string{"example.org/a": "this", "example.org/a/v2": "that"}}
	table, err := plan.addUp("example.org/a false\nexample.org/a/v2 false\nexample.org/c true\nexample.org/a false\n",
		[]elf.Symbol{
			{Name: "example.org/a/p.(*T).Do", Size: 100}, {Name: "example.org/a/v2/p.Do", Size: 200}, {Name: "example.org/c.Var", Size: 30},
			{Name: "main.main", Size: 7}, {Name: "type:*example.org/x.T", Size: 11}, {Name: "runtime.main", Size: 3},
		}, 1000,
		"init example.org/a/p @0.5 ms, 0.25 ms clock, 2048 bytes, 3 allocs\ninit runtime @0 ms, 0.5 ms clock, 10 bytes, 1 allocs\nsomething else\n")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Module{}
	for _, m := range table {
		got[m.Path] = m
	}
	for _, want := range []Module{
		{Path: "example.org/a", For: "this", Bytes: 100, Microseconds: 250, Heap: 2048},
		{Path: "example.org/a/v2", For: "that", Bytes: 200},
		{Path: "example.org/c", For: "needed by others of these", Bytes: 30},
		{Path: standard, Bytes: 3, Microseconds: 500, Heap: 10},
		{Path: shared, For: "types, strings, tables of functions and lines", Bytes: 11 + 1000 - 351},
	} {
		if diff := cmp.Diff(want, got[want.Path]); diff != "" {
			t.Errorf("%s: %s", want.Path, diff)
		}
	}
	if _, err := plan.addUp("example.org/new false\n", nil, 0, ""); err == nil || !strings.Contains(err.Error(), "example.org/new") {
		t.Errorf("a module that nobody justifies: %v", err)
	}
}
