package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/catalogue"
	"github.com/studioml/studio-go-runner/e2e/engine"
)

const (
	good = `name: %s
rows: [1, 52]
targets: [embedded, kind]
runners: {a: {}}
steps: [{expect: {a: {live: true}}}]
`
	marked = `package x

// TestOrder is about rows.
//
// ` + "catalogue" + `: row 15, 25
func TestOrder(t *testing.T) {}
`
	readmeText = "# Title\n" + tableStart + "\nold\n" + tableEnd + "\nmore\n"
)

func file(name string) string { return strings.Replace(good, "%s", name, 1) }

// tree writes a small repository, which is the working directory then.
func tree(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for _, name := range []string{"e2e", "fakegpu", "runner", "scenarios"} {
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if files[readmeFile] == "" {
		files[readmeFile] = readmeText
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// fresh writes the table of a tree, as make generate does, and returns the document.
func fresh(t *testing.T) string {
	t.Helper()
	all, err := engine.Format.LoadDir("scenarios")
	if err != nil {
		t.Fatal(err)
	}
	_, text, err := readme(all)
	if err == nil {
		err = os.WriteFile(readmeFile, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// command runs the command about scenarios.
func command(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(append([]string{"scenarios"}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

func TestList(t *testing.T) {
	tree(t, map[string]string{
		"scenarios/start/one.yaml": file("one"),
		"scenarios/drain/two.yaml": file("two ${n}") + "matrix: {n: [1, 2]}\nmaps: {global: \"n${n}\"}\n",
	})
	fresh(t)
	code, stdout, stderr := command()
	want := `1,52  drain  two 1  embedded,kind  scenarios/drain/two.yaml:6
1,52  drain  two 2  embedded,kind  scenarios/drain/two.yaml:6
1,52  start  one    embedded,kind  scenarios/start/one.yaml:1

3 scenarios in 2 files show 2 rows of 85
areas: map[drain:2 start:1]
targets: map[embedded:3 kind:3]
`
	if diff := cmp.Diff(want, stdout); code != 0 || stderr != "" || diff != "" {
		t.Errorf("exit code %d, stderr %q, stdout, want - got +\n%s", code, stderr, diff)
	}
}

func TestMistakes(t *testing.T) {
	tree(t, map[string]string{
		"scenarios/start/one.yaml": file("one") + "runers: {}\n",
		"scenarios/start/two.yaml": strings.Replace(file("two"), "52", "91", 1),
	})
	want := `scenarios/start/one.yaml:6: unknown field "runers"; did you mean runners?
scenarios/start/two.yaml:2: rows[1]: is 91; must be at most 85
`
	if code, stdout, stderr := command(); code != 1 || stdout != "" || stderr != want {
		t.Errorf("exit code %d, stdout %q, stderr\n%swant\n%s", code, stdout, stderr, want)
	}
}

func TestCatalogue(t *testing.T) {
	tree(t, map[string]string{
		"scenarios/start/one.yaml": file("one ${n}") + "matrix: {n: [1, 2]}\nmaps: {global: \"n${n}\"}\n",
		"runner/x/order_test.go":   marked,
		"runner/x/order.go":        "package x",
		"e2e/jobs_test.go":         "package x\n\nfunc specs() {\n\tIt(\"a Job\", rows(52, 53), limit, func() {})\n}\n",
	})
	if code, _, stderr := command(); code != 1 || !strings.Contains(stderr, "not up to date") {
		t.Errorf("before: exit code %d, stderr %q", code, stderr)
	}
	text := fresh(t)
	if code, _, stderr := command(); code != 0 {
		t.Errorf("after: exit code %d, stderr %q", code, stderr)
	}
	for _, want := range []string{
		"# Title\n" + tableStart + "\n| row | what | shown by |\n",
		"| | **One map** | |\n| 1 | Running at start: tasks are pulled | [start/one.yaml](start/one.yaml) (2) |\n",
		"| 2 | suspended at start: no task is ever pulled | **missing** |\n",
		"| [TestOrder](../runner/x/order_test.go) in runner/x |\n",
		"| [a Job](../e2e/jobs_test.go) in e2e |\n",
		"|\n" + tableEnd + "\nmore\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "old") {
		t.Error("the old table is still there")
	}
}

func TestMissing(t *testing.T) {
	shown := map[witness]int{}
	for _, row := range catalogue.Rows {
		if row.Number != 7 {
			shown[witness{row: row.Number, file: "x"}]++
		}
	}
	if got := missing(shown); len(got) != 1 || got[0].Number != 7 {
		t.Errorf("missing is %v, want row 7 only", got)
	}
}

func TestBadMarks(t *testing.T) {
	tests := []struct{ name, source, want string }{
		{"not above a test", "package x\n\n// catalogue: row 1\nvar x int\n",
			"e2e/x_test.go:3: the mark does not stand directly above a test"},
		{"a gap", "package x\n\n// catalogue: row 1\n\nfunc TestX() {}\n",
			"e2e/x_test.go:3: the mark does not stand directly above a test"},
		{"no row", "package x\n\n// catalogue: one\nfunc TestX() {}\n",
			`e2e/x_test.go:3: row one is not in the catalogue; must be 1 to 85`},
		{"row 91", "package x\n\n// catalogue: row 1, 91\nfunc TestX() {}\n",
			"e2e/x_test.go:3: row 91 is not in the catalogue; must be 1 to 85"},
		{"row 92 of a spec", "package x\n\nfunc specs() {\n\tIt(\"does\", rows(52, 92))\n}\n",
			"e2e/x_test.go:4: row 92 is not in the catalogue; must be 1 to 85"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tree(t, map[string]string{"e2e/x_test.go": tt.source})
			_, err := whatShows(nil)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got error %v, want %s", err, tt.want)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	t.Chdir(t.TempDir())
	if code, stdout, _ := command("--help"); code != 0 || !strings.Contains(stdout, "scenario files") {
		t.Errorf("--help: exit code %d, stdout %q", code, stdout)
	}
	for _, args := range [][]string{{"lint"}, {"--all"}} {
		if code, _, stderr := command(args...); code != 2 || stderr == "" {
			t.Errorf("%q: exit code %d, stderr %q", args, code, stderr)
		}
	}
	var errs bytes.Buffer
	if code := run(nil, &errs, &errs); code != 2 || errs.Len() == 0 {
		t.Errorf("without a command: exit code %d, %q", code, &errs)
	}
	if code, _, stderr := command(); code != 1 || !strings.Contains(stderr, "find scenarios") {
		t.Errorf("outside of a repository: exit code %d, stderr %q", code, stderr)
	}
}
