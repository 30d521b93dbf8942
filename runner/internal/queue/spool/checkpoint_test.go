package spool_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/result"
)

// Whatever the file system has allowed the attempt before, the next one finds: bytes that
// are no text in names, and paths that are longer than a call takes.
func TestNamesInACheckpoint(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	submit(t, s, api.Task{ID: "a"})
	d := fetch(t, s, "a")
	n := begin(t, d)
	results, _ := d.Local()
	made, err := results.Begin("a", n)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(made.Checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	deep := strings.Repeat(strings.Repeat("d", 200)+"/", 30)
	err = errors.Join(root.Mkdir("d\xe9", 0o755), root.MkdirAll(deep, 0o755), root.Symlink("\xe9", "l\xe9"))
	for _, name := range []string{"\xe9", "d\xe9/\xff", "\\", deep + "deep"} {
		err = errors.Join(err, root.WriteFile(name, []byte(filepath.Base(name)), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	r := api.Result{Task: "a", Attempt: n, Outcome: api.Interrupted}
	_, err = made.Close(&r, result.Limits{Checkpoint: 1 << 20})
	if err == nil {
		_, err = d.Finish(r, made)
	}
	if err != nil || r.Reason != "" {
		t.Fatalf("%v; it says %q", err, r.Reason)
	}
	to := t.TempDir()
	d = fetch(t, s, "a")
	begin(t, d)
	if err := d.Checkpoint(to); err != nil {
		t.Fatal(err)
	}
	found, err := os.OpenRoot(to)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	for name, want := range map[string]string{"\xe9": "\xe9", "l\xe9": "\xe9", "d\xe9/\xff": "\xff", "\\": "\\", deep + "deep": "deep"} {
		if text, err := found.ReadFile(name); string(text) != want {
			t.Errorf("%.20q has %q, %v; want %q", name, text, err, want)
		}
	}
	if target, err := found.Readlink("l\xe9"); target != "\xe9" {
		t.Errorf("the link leads to %q, %v", target, err)
	}
}
