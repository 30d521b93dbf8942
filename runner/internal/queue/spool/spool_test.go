package spool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
	"github.com/studioml/studio-go-runner/runner/internal/result"
)

// rescan keeps the tests short; the product looks once a second.
const rescan = 20 * time.Millisecond

func open(t *testing.T, dir, runner string) *spool.Spool {
	t.Helper()
	s, err := spool.Open(dir, spool.Options{Runner: runner, Rescan: rescan})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func contents(t *testing.T, dir string) spool.Contents {
	t.Helper()
	c, err := spool.ReadContents(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func anyClass(api.Resources) bool { return true }

func submit(t *testing.T, s *spool.Spool, task api.Task) string {
	t.Helper()
	task.Command = "true"
	id, err := s.SubmitOne(&task)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func fetch(t *testing.T, s *spool.Spool, want string) spool.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	d, err := s.Fetch(ctx, anyClass)
	if err != nil {
		t.Fatal(err)
	}
	if got := d.Task().ID; got != want {
		t.Fatalf("fetched %q, want %q", got, want)
	}
	return d.(spool.Delivery)
}

// firstBucket comes before all that is submitted.
const firstBucket = "10-0000000000000001-0-0-0"

// entryName is the name of a file in it.
func entryName(starts, deaths, spent int, id string) string {
	return fmt.Sprintf("10-0000000000000001-0-0000000000000001-0-0-%d-%d-%d-0-%s.json", starts, deaths, spent, id)
}

// drop puts a file there.
func drop(t *testing.T, dir, name string, document []byte) {
	t.Helper()
	path := filepath.Join(dir, "ready", firstBucket, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, document, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestContents(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "gpu-1")
	before := time.Now()
	for _, id := range []string{"a", "b", "c", "d"} {
		submit(t, s, api.Task{ID: id})
	}
	claimed := fetch(t, s, "a")
	if _, err := claimed.Begin(nil); err != nil {
		t.Fatal(err)
	}
	if err := fetch(t, s, "b").Bury("no such GPU"); err != nil {
		t.Fatal(err)
	}
	c := contents(t, dir)
	type row struct {
		ID, Runner       string
		Starts, Attempts int
	}
	var got []row
	for _, e := range slices.Concat(c.Ready, c.Claimed) {
		got = append(got, row{e.ID, e.Runner, e.Starts, e.Spent})
		if e.Since.Before(before) || e.Since.After(time.Now()) {
			t.Errorf("task %s was submitted at %s, want a time since %s", e.ID, e.Since, before)
		}
	}
	want := []row{{"c", "", 0, 0}, {"d", "", 0, 0}, {"a", "gpu-1", 1, 0}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tasks (-want +got):\n%s", diff)
	}
	if len(c.Dead) != 1 || c.Dead[0].ID != "b" || c.Dead[0].Reason != "no such GPU" {
		t.Errorf("dead letters are %+v, want b", c.Dead)
	}
}

// While a task goes round and round, ReadContents sees it at every moment, and
// once.
func TestContentsWhileTasksMove(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "gpu-1")
	submit(t, s, api.Task{ID: "a"})
	ctx, stop := context.WithCancel(t.Context())
	moved := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			d, err := s.Fetch(t.Context(), anyClass)
			if err == nil {
				err = d.Release()
			}
			if err != nil {
				moved <- err
				return
			}
		}
		moved <- nil
	}()
	for range 200 {
		if c := contents(t, dir); len(c.Ready)+len(c.Claimed) != 1 {
			t.Errorf("one task is listed as %+v and %+v", c.Ready, c.Claimed)
		}
	}
	stop()
	if err := <-moved; err != nil {
		t.Error(err)
	}
}

func TestOpenError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := spool.Open(file, spool.Options{Runner: "r"})
	if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "name a directory") {
		t.Errorf("error is %v, want the path and what to do", err)
	}
}

func TestUnreadableFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	valid := `{"id":"a","command":"true"}`
	drop(t, dir, entryName(0, 0, 1, "d"), []byte(valid))       // spent > starts
	drop(t, dir, entryName(0, 0, 0, "b"), []byte(valid))       // a copy
	drop(t, dir, entryName(0, 0, 0, "a"), []byte(valid+valid)) // two
	drop(t, dir, entryName(0, 0, 0, "c"), []byte("\x00\xff"))  // hostile
	drop(t, dir, "00-a.yaml", []byte(valid))                   // by hand
	drop(t, dir, ".hidden", []byte("an editor's"))
	if err := os.Mkdir(filepath.Join(dir, "ready", firstBucket, "directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "ready", firstBucket, "link")); err != nil {
		t.Fatal(err)
	}
	submit(t, s, api.Task{ID: "good"})
	fetch(t, s, "good")
	c := contents(t, dir)
	if len(c.Dead) != 3 || len(c.Ready) != 0 {
		t.Errorf("dead: %+v\nready: %+v\nwant 3 and none", c.Dead, c.Ready)
	}
	for _, d := range c.Dead {
		if strings.ContainsAny(d.ID, "\x1b/") || strings.Contains(d.Reason, "\x1b") || d.Document == "" {
			t.Errorf("dead letter %q: reason %q, document %q", d.ID, d.Reason, d.Document)
		}
	}
	if n := globs(t, dir, "held/*.lock"); n > 2 {
		t.Errorf("there are %d claims, want one that was used again, and that of good", n)
	}
	if _, err := os.Stat(filepath.Join(dir, "ready", firstBucket, ".hidden")); err != nil {
		t.Error("a hidden file was touched")
	}
	if n := globs(t, dir, "ready/"+firstBucket+"/*"); n != 5 { // with the hidden one
		t.Errorf("%d files are left that are none of the queue, want 5", n)
	}
	if n, err := s.Purge(t.Context(), time.Now().Add(time.Hour)); n != 3 || err != nil {
		t.Errorf("purged %d, %v, want what was no task", n, err)
	}
}

func FuzzParse(f *testing.F) {
	name := "10-0000000000000001-0-0000000000000002-0-0-2-0-1-0-a.json"
	for _, document := range []string{
		`{"id":"a","command":"true"}`,
		`{"id":"a","command":"true","timeout":"1h","resources":{"gpus":1,"gpuMemory":"16Gi"},"env":{"A":"b"}}`,
		`{"id":"b","command":"true"}`, `{"id":"a"}`, `null`, `[]`, ``, `{} {}`, "{\x00", `{"id":"a","command":"true","gpus":1}`,
	} {
		f.Add(name, []byte(document))
	}
	f.Add("a.yaml", []byte("id: a\ncommand: true\n"))
	f.Add("10-0000000000000001-1-0000000000000002-0-0-1-0-2-0-a.json", []byte(`{"id":"a","command":"true"}`))
	f.Fuzz(func(t *testing.T, name string, document []byte) {
		if canonical, valid := spool.Parse(name, document); valid && canonical != name {
			t.Errorf("name %q was read, but means %q", name, canonical)
		}
	})
}

// finish ends an attempt that leaves a checkpoint.
func finish(d queue.Delivery, n int, outcome api.Outcome) error {
	results, _ := d.Local()
	made, err := results.Begin(d.Task().ID, n)
	if err != nil {
		return err
	}
	if outcome != api.Succeeded {
		if err := os.Mkdir(filepath.Join(filepath.Dir(made.Stdout()), "checkpoint"), 0o755); err != nil {
			return err
		}
	}
	_, err = d.Finish(api.Result{Task: d.Task().ID, Attempt: n, Outcome: outcome}, made)
	return err
}

// store stores a result as a runner does that dies before it can settle the task.
func store(t *testing.T, dir, id string, attempt int, outcome api.Outcome) {
	t.Helper()
	work := t.TempDir()
	made, err := result.New(spool.ResultsDir(dir), func() (string, error) { return work, nil }).Begin(id, attempt)
	if err == nil {
		err = made.Commit(api.Result{Task: id, Attempt: attempt, Outcome: outcome})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A runner that dies between storing the result and removing the task leaves such
// a task.
func TestATaskThatIsFinishedIsNotHandedOutAgain(t *testing.T) {
	dir := t.TempDir()
	first, second := open(t, dir, "first"), open(t, dir, "second")
	for _, id := range []string{"done", "todo"} {
		submit(t, first, api.Task{ID: id})
		if _, err := fetch(t, first, id).Begin(nil); err != nil {
			t.Fatal(err)
		}
	}
	store(t, dir, "done", 1, api.Succeeded)
	store(t, dir, "todo", 1, api.Failed)
	first.Crash()
	fetch(t, second, "todo")
	if c := contents(t, dir); len(c.Ready) != 0 || len(c.Claimed) != 1 || len(c.Dead) != 0 {
		t.Errorf("contents %+v, want one claimed task and nothing else", c)
	}
}
