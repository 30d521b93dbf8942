package main

import (
	"bytes"
	"debug/elf"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/modfile"
)

func TestRowsAreMeasured(t *testing.T) {
	plan, err := load()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("../..")
	places, err := placesOf(plan.benchmarks(nil))
	if err != nil {
		t.Error(err)
	}
	for function := range plan.Time.Long {
		if places[function] == "" {
			t.Errorf("rows.yaml says how long %s may take, which no row names", function)
		}
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

// What go.mod asks for is either of the runner's or the harness', and the table says what for.
func TestTheTableIsComplete(t *testing.T) {
	plan, err := load()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	file, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, required := range file.Require {
		path := required.Mod.Path
		if !required.Indirect && (plan.Dependencies[path] == "") == (plan.Harness[path] == "") {
			t.Errorf("rows.yaml must say what %s is for, under dependencies or harness", path)
		}
		delete(plan.Harness, path)
	}
	for path := range plan.Harness {
		t.Errorf("rows.yaml says what %s is for, which go.mod does not name", path)
	}
}

// measured are results without a reason for what they lack.
func measured(metrics map[Metric]float64) Results {
	return Results{metrics, map[string]Lack{}}
}

func TestReadsWhatBenchmarksPrint(t *testing.T) {
	results := measured(map[Metric]float64{})
	results.read(`goos: linux
BenchmarkFleet
BenchmarkFleet/runners=100
BenchmarkFleet/runners=100-2 	       3	 40 ns/op	        11.90 last-ms	        300 cpu-ns/call
BenchmarkOne 	       1	 0.5 MB/s
BenchmarkTwo
BenchmarkTwo/some
    some_test.go:1: to begin with
    some_test.go:2: no such thing
        and more of it
--- FAIL: BenchmarkTwo/some
--- FAIL: BenchmarkTwo
BenchmarkThree
    some_test.go:1: needs root
--- SKIP: BenchmarkThree
BenchmarkFour-2       	some_test.go:9: late
    some_test.go:1: late
--- FAIL: BenchmarkFour-2
FAIL
`)
	want := Results{
		map[Metric]float64{"Fleet/runners=100 ns/op": 40, "Fleet/runners=100 last-ms": 11.9, "Fleet/runners=100 cpu-ns/call": 300, "One MB/s": 0.5},
		map[string]Lack{"Two/some": {"no such thing", true}, "Three": {"needs root", false}, "Four": {"late", true}},
	}
	if diff := cmp.Diff(want, results); diff != "" {
		t.Error(diff)
	}
	for metric, want := range map[Metric]string{"Two/some/deep ms": "no such thing", "Three ms": "needs root", "Two/other ms": "nothing has measured Two/other ms"} {
		if got := results.lack(metric); got.Reason != want {
			t.Errorf("%s: %q, want %q", metric, got.Reason, want)
		}
	}
}

// What a program has measured counts, however it ends, and nothing of it goes on.
func TestProgramsThatFail(t *testing.T) {
	dir, place := t.TempDir(), t.TempDir()
	for text, want := range map[string]string{
		"sleep 1000 >&- 2>&- & echo $! >child; wait": "it took longer than 5s",
		"echo 'panic: oops' >&2; exit 2":             "panic: oops",
		"exit 3":                                     "exit status 3",
		"echo begins; echo 'no disk' >&2; exit 1":    "exit status 1: no disk",
	} {
		check := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		check(os.WriteFile(filepath.Join(dir, filepath.Base(place)+".test"), []byte("#!/bin/sh\necho 'BenchmarkA 1 5 n/s'\n"+text), 0o755))
		results := measured(map[Metric]float64{})
		limit := time.Minute
		if strings.HasPrefix(want, "it took longer") {
			limit = 5 * time.Second
		}
		err := results.run(t.Context(), limit, dir, place, []string{"A"}, false)
		if err == nil || err.Error() != want || *results.figure("A n/s") != 5 {
			t.Errorf("%s: %v, want %s; and %v", text, err, want, results)
		}
	}
	text, err := os.ReadFile(filepath.Join(place, "child"))
	if err != nil {
		t.Fatal(err)
	}
	child, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) { // it is killed, which takes its time
		state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		if len(state) == 0 || strings.Contains(string(state), ") Z ") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("what the program has started goes on: %s", state)
		}
	}
}

func TestPatternIsExact(t *testing.T) {
	if got, want := pattern([]string{"A", "B/x.y=1/z"}), `^BenchmarkA$|^BenchmarkB$/^x\.y=1$/^z$`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestVerdicts(t *testing.T) {
	results := measured(map[Metric]float64{"Ours ms": 6, "Theirs ms": 4, "Floor ms": 5, "Low ms": 1, "Rate n/s": 50, "Best n/s": 60})
	results.Lacks["Broken"], results.Lacks["Left"] = Lack{"it broke", true}, Lack{"needs root", false}
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
		{Row{Ours: "Ours ms", Theirs: "Lacking ms", Goal: "≤ 7"}, "–", "failed: nothing has measured Lacking ms"},
		{Row{Ours: "Broken/a ms", Theirs: "Theirs ms", Goal: "≤ 1.5"}, "–", "failed: it broke"},
		{Row{Ours: "Ours ms", Goal: "≤ 5.9", Limit: "Broken ms"}, "–", "failed: it broke"},
		{Row{Ours: "Broken ms", Theirs: "Left ms"}, "–", "failed: it broke"},
		{Row{Ours: "Left ms", Theirs: "Left/peer ms"}, "–", "not run: needs root"},
	} {
		l := (&Plan{Rows: []Row{test.row}}).lines(results, nil)[0]
		if figure(l.Ratio) != test.ratio || l.Verdict != test.want {
			t.Errorf("%+v: ratio %s, %s; want %s, %s", test.row, figure(l.Ratio), l.Verdict, test.ratio, test.want)
		}
		if l.Failed != strings.HasPrefix(test.want, "failed") {
			t.Errorf("%+v: failed is %t", test.row, l.Failed)
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
	lines := append(plan.lines(measured(map[Metric]float64{"Ours ms": 1234.5}), missing), alone.lines(measured(nil), map[string]string{"strace": "strace"})...)
	for _, l := range lines {
		if l.Failed {
			t.Errorf("what is not installed is a failure: %+v", l)
		}
	}
	if err := printTable(&table, lines, true); err != nil {
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
	needsGnuplot(t)
	plan, err := load()
	if err != nil {
		t.Fatal(err)
	}
	results := measured(map[Metric]float64{})
	for i, r := range plan.Rows[1:] {
		results.Metrics[r.Ours] = float64(i + 1)
	}
	results.Lacks["ChangeOfState"] = Lack{"it | broke", true}
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
	for _, want := range []string{"| processor | 2 × something |", "| example.org/m | 4 |", `| failed: it \| broke |`, plan.Rows[0].Name, plan.Rows[1].Says} {
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
	needsGnuplot(t)
	p := Picture{File: "f.svg", Title: `a < "b"`, At: "log10($1)", Series: []Series{{"ours", "Fleet/runners=* last-ms"}, {"others_", "Bare/runners=* last-ms"}}}
	for name, test := range map[string]struct {
		results map[Metric]float64
		points  int // and one beside each name
		has     string
	}{
		"one": {map[Metric]float64{"Fleet/runners=100 last-ms": 5.0}, 2, `>a &lt; "b"<`},
		"two": {map[Metric]float64{"Fleet/runners=100 last-ms": 5.0, "Fleet/runners=5000 last-ms": 500.0, "Bare/runners=5000 last-ms": 50.0}, 5, ">others_<"},
	} {
		svg, err := p.draw(measured(test.results))
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Count(svg, []byte("'#gpPt6'")); got != test.points || !bytes.Contains(svg, []byte(test.has)) {
			t.Errorf("%s: %d points, want %d, and %q:\n%s", name, got, test.points, test.has, svg)
		}
		for decoder := xml.NewDecoder(bytes.NewReader(svg)); ; {
			if _, err := decoder.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	for name, metric := range map[string]Metric{"not it": "Fleet/runners=100 first-ms", "not a number": "Fleet/runners=x last-ms"} {
		if svg, err := p.draw(measured(map[Metric]float64{metric: 5})); err == nil {
			t.Errorf("%s: it draws %s", name, svg)
		}
	}
	if _, err := p.draw(measured(map[Metric]float64{"Fleet/runners=100 last-ms": 0})); err == nil {
		t.Error("a logarithm of 0 is drawn")
	}
	p.At = "no such function($1)"
	if _, err := p.draw(measured(map[Metric]float64{"Fleet/runners=100 last-ms": 5})); err == nil || !strings.Contains(err.Error(), "line") {
		t.Errorf("what gnuplot does not understand: %v", err)
	}
}

func needsGnuplot(t *testing.T) {
	if _, err := exec.LookPath(gnuplot.Program); err != nil {
		t.Skip("needs gnuplot: apt-get install " + gnuplot.Package)
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
