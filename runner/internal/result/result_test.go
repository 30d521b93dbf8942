package result_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/result"
)

func newStore(t *testing.T) (s *result.Store, dir, work string) {
	t.Helper()
	dir, work = filepath.Join(t.TempDir(), "results"), t.TempDir()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return result.New(dir, func() (string, error) { return work, nil }), dir, work
}

func begin(t *testing.T, s *result.Store, task string, attempt int) *result.Draft {
	t.Helper()
	a, err := s.Begin(task, attempt)
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		a.Stdout(): "out", a.Stderr(): "err", filepath.Join(a.Scratch(), "core"): "scratch",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func res(task string, attempt int) api.Result {
	now := time.Date(2026, 8, 22, 12, 0, 0, 0, time.UTC)
	return api.Result{
		Task: task, Attempt: attempt, Outcome: api.Failed, ExitCode: 3, Reason: "exit status 3",
		Started: now, Finished: now.Add(time.Second), Runner: "r", GPUs: []string{"GPU-1"}, StdoutTruncated: true,
	}
}

// files lists all files below dir, with their contents.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		if filepath.Base(path) == "result.json" {
			text = []byte("…")
		}
		got[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestCommit(t *testing.T) {
	s, dir, work := newStore(t)
	a := begin(t, s, "a", 2)
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("stored before the commit: %v", got)
	}
	if err := a.Commit(res("a", 2)); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a/2/result.json": "…", "a/2/stdout": "out", "a/2/stderr": "err"}
	if diff := cmp.Diff(want, files(t, dir)); diff != "" {
		t.Errorf("stored files (-want +got):\n%s", diff)
	}
	if left := files(t, work); len(left) != 0 {
		t.Errorf("left in the working directory: %v", left)
	}
	got, err := result.New(dir, nil).Read("a", 2)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(res("a", 2), *got); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if err := a.Commit(res("a", 2)); err != nil {
		t.Errorf("second commit: %v", err)
	}
}

func TestCommitWithoutOutput(t *testing.T) {
	s, dir, _ := newStore(t)
	a, err := s.Begin("a", 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Commit(res("a", 1)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a/1/result.json": "…"}, files(t, dir)); diff != "" {
		t.Errorf("stored files (-want +got):\n%s", diff)
	}
}

// The results are out of reach for a while.
func TestCommitAgain(t *testing.T) {
	s, dir, _ := newStore(t)
	a := begin(t, s, "a", 1)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := a.Commit(res("a", 1)); err == nil {
		t.Fatal("commit succeeded without a place for it")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := a.Commit(res("a", 1)); err != nil {
		t.Fatalf("commit again: %v", err)
	}
	if got := files(t, dir)["a/1/stdout"]; got != "out" {
		t.Errorf("stdout is %q, want it kept", got)
	}
}

func TestCommitReplacesNothing(t *testing.T) {
	s, dir, _ := newStore(t)
	if err := begin(t, s, "a", 1).Commit(res("a", 1)); err != nil {
		t.Fatal(err)
	}
	second := begin(t, s, "a", 1)
	if err := os.WriteFile(second.Stdout(), []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := second.Commit(res("a", 1)); err == nil {
		t.Error("a stored result was replaced")
	}
	if got := files(t, dir)["a/1/stdout"]; got != "out" {
		t.Errorf("stdout is %q, want the first one", got)
	}
	if err := second.Commit(res("b", 1)); err == nil || !strings.Contains(err.Error(), `"b"`) {
		t.Errorf("commit of another task's result gave %v", err)
	}
}

func TestDiscard(t *testing.T) {
	s, dir, work := newStore(t)
	if err := begin(t, s, "a", 1).Discard(); err != nil {
		t.Fatal(err)
	}
	if stored, left := files(t, dir), files(t, work); len(stored)+len(left) != 0 {
		t.Errorf("after discard: stored %v, left %v", stored, left)
	}
	if entries, err := os.ReadDir(dir); len(entries) != 0 || err != nil {
		t.Errorf("task has a directory for results: %v, %v", entries, err)
	}
}

func TestList(t *testing.T) {
	s, dir, _ := newStore(t)
	for _, n := range []int{10, 2, 1} {
		if err := begin(t, s, "a", n).Commit(res("a", n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := begin(t, s, "b", 1).Commit(res("b", 1)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a", "1", "result.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := s.List("a")
	if err == nil {
		t.Error("a broken result gave no error")
	}
	if diff := cmp.Diff([]api.Result{res("a", 2), res("a", 10)}, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if none, err := s.List("c"); len(none) != 0 || err != nil {
		t.Errorf("results of an unknown task: %v, %v", none, err)
	}
}

func TestBadIDs(t *testing.T) {
	s, _, work := newStore(t)
	for _, id := range []string{"", "../a", "a/b", ".", "\x00"} {
		if _, err := s.Begin(id, 1); err == nil {
			t.Errorf("begin of task %q succeeded", id)
		}
		if _, err := s.List(id); err == nil {
			t.Errorf("list of task %q succeeded", id)
		}
		if _, err := s.Read(id, 1); err == nil {
			t.Errorf("read of task %q succeeded", id)
		}
	}
	if _, err := s.Begin("a", 0); err == nil {
		t.Error("begin of attempt 0 succeeded")
	}
	if entries, _ := os.ReadDir(work); len(entries) != 0 {
		t.Errorf("left in the working directory: %v", entries)
	}
}

// limits have room for what the tests keep.
var limits = result.Limits{Outputs: 1000, Checkpoint: 1000}
