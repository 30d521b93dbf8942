package scenario_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/engine"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Every file in testdata/bad has beside it what Load says about it.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bad files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			all, err := engine.Format.Load(file)
			if err == nil {
				t.Fatalf("loaded %d scenarios, want an error", len(all))
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", err.Error()+"\n")
		})
	}
}

// golden compares with a file, or rewrites it under -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s, want - got + (go test ./e2e/scenario -update rewrites it)\n%s", file, diff)
	}
}

func TestLoadDirErrors(t *testing.T) {
	const plain = `
name: %NAME%
rows: [1]
targets: [embedded]
runners: {a: {}}
steps: [{expect: {a: {live: true}}}]
`
	file := func(name string) string { return strings.ReplaceAll(plain, "%NAME%", name) }
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"same name", map[string]string{"x/a.yaml": file("same"), "y/b.yaml": file("same")},
			`scenarios/y/b.yaml:2: name "same" is also that of scenarios/x/a.yaml:2; it must say what differs`},
		{"all files are told", map[string]string{"x/a.yaml": "name: [", "x/b.yaml": "- x\n", "x/c.yaml": file("fine")},
			"scenarios/x/a.yaml:1: sequence end token ']' not found\n" +
				"scenarios/x/b.yaml:1: the file must be a mapping, with name and so on"},
		{"no area", map[string]string{"a.yaml": file("a")},
			"scenarios/a.yaml: is not read; must be scenarios/<area>/<file>.yaml"},
		{"too deep", map[string]string{"x/y/a.yaml": file("a")},
			"scenarios/x/y/a.yaml: is not read; must be scenarios/<area>/<file>.yaml"},
		{"ending in capitals", map[string]string{"x/a.YAML": file("a"), "x/b.yaml": file("b")},
			"scenarios/x/a.YAML: is not read; must be scenarios/<area>/<file>.yaml"},
		{"ending", map[string]string{"x/a.yml": file("a"), "x/b.yaml": file("b")},
			"scenarios/x/a.yml: is not read; must be scenarios/<area>/<file>.yaml"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "scenarios")
			write(t, root, tt.files)
			all, err := engine.Format.LoadDir(root)
			if err == nil {
				t.Fatalf("loaded %d scenarios, want an error", len(all))
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("error, want - got +\n%s", diff)
			}
		})
	}
	if _, err := engine.Format.LoadDir(t.TempDir()); err == nil {
		t.Error("an empty directory was loaded, want an error")
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := engine.Format.LoadDir(missing); err == nil ||
		err.Error() != "find scenarios: there is no directory "+missing+"; this is run at the root of the repository" {
		t.Errorf("a missing directory: %v", err)
	}
	root := filepath.Join(t.TempDir(), "scenarios")
	write(t, root, map[string]string{"x/a.yaml": file("a")})
	if err := os.Symlink(t.TempDir(), filepath.Join(root, "y")); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Format.LoadDir(root); err == nil || err.Error() != "scenarios/y: is not read; must be scenarios/<area>/<file>.yaml" {
		t.Errorf("a link: %v", err)
	}
}

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// What would keep a parser busy is refused before it is parsed, or is not read to its end.
func TestRefusedUnread(t *testing.T) {
	const deep = 5000
	for text, want := range map[string]string{
		"\xef\xbb\xbfname: x":                                                                                "x.yaml:1: begins with a byte order mark; save the file as UTF-8 without one",
		"name: x\nrows: " + strings.Repeat("[", 20000):                                                       "x.yaml: has 20014 bytes; must be at most 16384",
		"name: x\nrows: " + strings.Repeat("[", deep):                                                        "x.yaml:2: sequence end token ']' not found",
		"name: x\nrows: " + strings.Repeat("[", deep) + strings.Repeat("]", deep):                            "x.yaml:2: rows[0]: is a list; must be a whole number",
		"# " + strings.Repeat("]", 200) + "\nname: " + strings.Repeat("[", deep) + strings.Repeat("]", deep): "x.yaml:2: name: is a list; must be one line of visible text",
		"name: x\nmaps:\n  " + strings.Repeat("- ", deep) + "a":                                              "x.yaml:2: maps: is a list; must be a mapping",
		strings.Repeat("? ", deep):                                                                           "x.yaml:1: unexpected scalar value type",
		strings.Repeat("{a: ", 4000):                                                                         "x.yaml:1: could not find map value",
		"name: x\nabout: a\xffb\n":                                                                           "x.yaml:2: is not UTF-8; save the file as UTF-8",
		"\xff\xfen\x00a\x00":                                                                                 "x.yaml:1: is not UTF-8; save the file as UTF-8",
	} {
		if _, err := engine.Format.Parse("x.yaml", []byte(text)); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got error %v, want %s", err, want)
		}
	}
}

func TestTooLong(t *testing.T) {
	_, err := engine.Format.Parse("x.yaml", []byte("name: "+strings.Repeat("n", 16<<10)))
	if want := "x.yaml: has 16390 bytes; must be at most 16384"; err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
}
