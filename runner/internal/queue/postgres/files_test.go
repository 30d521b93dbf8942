package postgres_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/queue/postgres"
	"github.com/studioml/studio-go-runner/runner/internal/result"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

func begin(t *testing.T, d queue.Delivery) (made *result.Draft, dir string, number int) {
	t.Helper()
	number, err := d.Begin([]string{"GPU-1"})
	must(t, err)
	results, _ := d.Local()
	made, err = results.Begin(d.Task().ID, number)
	must(t, err)
	return made, filepath.Dir(made.Stdout()), number
}

func put(t *testing.T, content []byte, path ...string) {
	t.Helper()
	name := filepath.Join(path...)
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, content, 0o644))
}

// contents reads all files of an attempt.
func contents(t *testing.T, q *postgres.Queue, id string, attempt int) map[string]string {
	t.Helper()
	files, err := q.Files(t.Context(), id, attempt)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	all := make(map[string]string)
	must(t, fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Type() == fs.ModeSymlink {
			return err
		}
		text, err := fs.ReadFile(files, path)
		all[path] = string(text)
		return err
	}))
	return all
}

// What an attempt prints is seen while it runs, and all that it leaves afterwards.
func TestFiles(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	q := open(t, f.url, "runner")
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	d := fetch(t, q)
	if _, err := f.owner.Files(t.Context(), "a", 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("files of an attempt that has not begun: %v", err)
	}
	made, dir, number := begin(t, d)
	put(t, []byte("one"), dir, "stdout")
	await(t, "the first word is stored", func() bool { return contents(t, f.owner, "a", 1)["stdout"] == "one" })
	put(t, []byte("one two"), dir, "stdout")
	put(t, []byte("later"), dir, "stdout.7+100")
	await(t, "more is stored", func() bool {
		return cmp.Equal(contents(t, f.owner, "a", 1), map[string]string{"stdout": "one two", "stdout.7+100": "later"})
	})
	must(t, os.Remove(filepath.Join(dir, "stdout.7+100")))
	await(t, "the part that the task has dropped is gone", func() bool { return contents(t, f.owner, "a", 1)["stdout.7+100"] == "" })
	large := slices.Concat(bytes.Repeat([]byte("0123456789"), 250_000), []byte("end")) // some pieces
	put(t, large, dir, "stdout")
	put(t, nil, dir, "stderr")
	put(t, []byte("model"), dir, "outputs", "deep", "er", "model")
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "outputs", "link")))
	_, err := d.Finish(api.Result{Task: "a", Attempt: number, Outcome: api.Succeeded}, made)
	must(t, err)
	want := map[string]string{"stdout": string(large), "stderr": "", "outputs/deep/er/model": "model"}
	if got := contents(t, f.owner, "a", 1); !cmp.Equal(got, want) {
		t.Errorf("files after the end (-want +got):\n%s", cmp.Diff(want, got))
	}
	files, err := f.owner.Files(t.Context(), "a", 1)
	must(t, err)
	defer files.Close()
	if text, err := fs.ReadFile(files, "outputs/link"); err == nil {
		t.Errorf("a link leads to %q", text)
	}
	if left, _ := os.ReadDir(q.Work); len(left) > 0 {
		t.Errorf("%s is left", left[0].Name())
	}
}

// A checkpoint goes from attempt to attempt, over ends of all kinds, until the task
// succeeds.
func TestCheckpoint(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	for i, step := range []struct {
		outcome     api.Outcome
		finds, puts string // "" leaves no directory
	}{
		{api.Interrupted, "", "1"}, {api.Failed, "1", "2"}, {api.MachineFailed, "2", ""}, {api.Interrupted, "2", "3"}, {api.Succeeded, "3", ""},
	} {
		d := fetch(t, open(t, f.url, "runner"))
		found := t.TempDir()
		must(t, d.Checkpoint(found))
		if text, _ := os.ReadFile(filepath.Join(found, "dir", "state")); string(text) != step.finds {
			t.Errorf("attempt %d finds %q, want %q", i+1, text, step.finds)
		}
		made, dir, number := begin(t, d)
		if step.puts != "" {
			put(t, []byte(step.puts), dir, "checkpoint", "dir", "state")
		}
		if step.outcome == api.Interrupted { // a runner that dies leaves the last good one
			must(t, d.Release())
			d = fetch(t, open(t, f.url, "runner"))
			number, _ = d.Begin(nil)
		}
		_, err := d.Finish(api.Result{Task: "a", Attempt: number, Outcome: step.outcome}, made)
		must(t, err)
	}
	if stored := f.owner.Dump(t); bytes.Contains([]byte(stored), []byte("checkpoint/")) {
		t.Errorf("a checkpoint is left after success:\n%s", stored)
	}
	must(t, f.owner.Again(t.Context(), "a"))
	must(t, f.owner.Cancel(t.Context(), "a"))
	if n, err := f.owner.Purge(t.Context(), f.owner.Now(t)); n != 1 || err != nil || f.owner.Dump(t) != "" {
		t.Errorf("purge of %d (%v) leaves %s", n, err, f.owner.Dump(t))
	}
}

// Names are kept as they are, byte for byte.
func TestNames(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	q := open(t, f.url, "runner")
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	d := fetch(t, q)
	made, dir, number := begin(t, d)
	for _, of := range []string{"outputs", "checkpoint"} {
		put(t, []byte("one"), dir, of, "r\xe9sum\xe9.txt")
		put(t, []byte("two"), dir, of, "d\xff", "\\")
		must(t, os.Symlink("r\xe9sum\xe9.txt", filepath.Join(dir, of, "l\xff")))
	}
	_, err := d.Finish(api.Result{Task: "a", Attempt: number, Outcome: api.Interrupted}, made)
	must(t, err)
	same := func(dir string) {
		t.Helper()
		for name, want := range map[string]string{"r\xe9sum\xe9.txt": "one", "d\xff/\\": "two", "l\xff": "one"} {
			if text, err := os.ReadFile(filepath.Join(dir, name)); string(text) != want {
				t.Errorf("%q has %q (%v), want %q", name, text, err, want)
			}
		}
	}
	files, err := f.owner.Files(t.Context(), "a", 1)
	must(t, err)
	defer files.Close()
	all, found := t.TempDir(), t.TempDir()
	must(t, tree.Copy(all, files))
	same(filepath.Join(all, "outputs"))
	must(t, fetch(t, q).Checkpoint(found))
	same(found)
}

// What cannot be read does not hold up the end of a task, nor do words that are no text.
func TestEndsInSpiteOf(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	f.Submit(t, &api.Task{ID: "a", Command: "true", MaxAttempts: 1})
	d := fetch(t, open(t, f.url, "runner"))
	made, dir, number := begin(t, d)
	put(t, []byte("one"), dir, "stdout")
	put(t, []byte("two"), dir, "outputs", "a")
	must(t, unix.Mkfifo(filepath.Join(dir, "outputs", "b"), 0o600)) // no archive has such
	put(t, []byte("three"), dir, "checkpoint", "state")
	r := api.Result{Task: "a", Attempt: number, Outcome: api.Failed, Reason: "name \xff, \x00"}
	if state, err := d.Finish(r, made); state != api.TaskDead || err != nil {
		t.Fatalf("ends as %s (%v), want Dead", state, err)
	}
	const reason = "name \uFFFD, %s; its output directory is not kept: "
	list, err := f.owner.List(t.Context())
	must(t, err)
	results, err := f.owner.Results(t.Context(), "a")
	must(t, err)
	if got := list[0].Reason; !strings.HasPrefix(got, "attempt 1: "+fmt.Sprintf(reason, "\uFFFD")) {
		t.Errorf("the task is dead for %q", got)
	}
	if got := results[0].Reason; !strings.HasPrefix(got, fmt.Sprintf(reason, "\x00")) {
		t.Errorf("the attempt's reason is %q", got)
	}
	if got := contents(t, f.owner, "a", 1); !cmp.Equal(got, map[string]string{"stdout": "one", "checkpoint/state": "three"}) {
		t.Errorf("kept is %v", got)
	}
}

// A task can exchange its outputs, and the directory in which they are made, for what they
// are not: that holds up nobody, and nothing from elsewhere is stored.
func TestFollowsNothingElsewhere(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	secret := t.TempDir()
	put(t, []byte("secret"), secret, "stdout")
	for id, exchange := range map[string]func(dir, stdout string) error{
		"pipe": func(_, stdout string) error { return unix.Mkfifo(stdout, 0o600) },
		"link": func(_, stdout string) error { return os.Symlink(filepath.Join(secret, "stdout"), stdout) },
		"place": func(dir, _ string) error {
			return errors.Join(os.Rename(dir, dir+".old"), os.Symlink(secret, dir))
		},
	} {
		t.Run(id, func(t *testing.T) {
			f.Submit(t, &api.Task{ID: id, Command: "true"})
			d := fetch(t, openWith(t, f.url, "runner", 10*time.Minute, time.Minute)) // it follows nothing by itself
			made, dir, number := begin(t, d)
			must(t, exchange(dir, filepath.Join(dir, "stdout")))
			done := make(chan error, 1)
			go func() {
				postgres.Follow(d)
				if stored := f.owner.Dump(t); strings.Contains(stored, hex.EncodeToString([]byte("secret"))) {
					t.Errorf("stored is\n%s", stored)
				}
				r := api.Result{Task: id, Attempt: number, Outcome: api.Succeeded}
				_, err := made.Close(&r, result.Limits{})
				if err == nil {
					_, err = d.Finish(r, made)
				}
				done <- err
			}()
			select {
			case err := <-done:
				must(t, err)
			case <-time.After(20 * time.Second):
				t.Error("its end is held up")
				if f, err := os.OpenFile(filepath.Join(dir, "stdout"), os.O_RDWR, 0); err == nil { // lets go whoever waits
					<-done
					f.Close()
				}
			}
		})
	}
}

// A runner that dies leaves a line about the attempt, and what it had printed.
func TestDied(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	q, other := open(t, f.url, "doomed"), open(t, f.url, "other")
	_, dir, _ := begin(t, fetch(t, q))
	put(t, []byte("last words"), dir, "stdout")
	await(t, "they are stored", func() bool { return contents(t, f.owner, "a", 1)["stdout"] == "last words" })
	q.Crash()
	again := fetch(t, other)
	number, err := again.Begin(nil)
	must(t, err)
	must(t, finish(t, again, number, api.Succeeded))
	results, err := f.owner.Results(t.Context(), "a")
	if err != nil || len(results) != 2 {
		t.Fatalf("results %+v (%v), want two", results, err)
	}
	died := results[0]
	if died.Attempt != 1 || died.Outcome != api.MachineFailed || died.Reason != "its runner gave no sign of life any more" || died.Runner != "doomed" ||
		!slices.Equal(died.GPUs, []string{"GPU-1"}) || died.Started.IsZero() || died.Finished.Before(died.Started) {
		t.Errorf("the line about the attempt is %+v", died)
	}
	if got := contents(t, f.owner, "a", 1)["stdout"]; got != "last words" {
		t.Errorf("the attempt has printed %q", got)
	}
}

// So does one whose task is then cancelled before another runner looks, and all goes with it.
func TestDiedAndCancelled(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	q := open(t, f.url, "doomed")
	_, dir, _ := begin(t, fetch(t, q))
	put(t, []byte("last words"), dir, "stdout")
	await(t, "they are stored", func() bool { return contents(t, f.owner, "a", 1)["stdout"] == "last words" })
	q.Crash()
	await(t, "the claim has run out", func() bool {
		list, err := f.owner.List(t.Context(), "a")
		return err == nil && list[0].State == api.TaskWaiting
	})
	must(t, f.owner.Cancel(t.Context(), "a"))
	list, err := f.owner.List(t.Context(), "a")
	must(t, err)
	results, err := f.owner.Results(t.Context(), "a")
	if err != nil || list[0].State != api.TaskCancelled || len(results) != 1 || results[0].Outcome != api.MachineFailed {
		t.Errorf("%s with results %+v (%v), want Cancelled with a line about the attempt", list[0].State, results, err)
	}
	if n, err := f.owner.Purge(t.Context(), f.owner.Now(t)); n != 1 || err != nil || f.owner.Dump(t) != "" {
		t.Errorf("purge of %d (%v) leaves %s", n, err, f.owner.Dump(t))
	}
}

// Of an attempt that was given back nothing is kept.
func TestReleasedLeavesNothing(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	d := fetch(t, open(t, f.url, "runner"))
	_, dir, _ := begin(t, d)
	put(t, []byte("word"), dir, "stdout")
	await(t, "it is stored", func() bool { return contents(t, f.owner, "a", 1)["stdout"] == "word" })
	must(t, d.Release())
	if stored := f.owner.Dump(t); bytes.Contains([]byte(stored), []byte("stdout")) {
		t.Errorf("left:\n%s", stored)
	}
}

// Nor of one that is given back while a piece of its output is on its way.
func TestReleasedWhileStored(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	d := fetch(t, openWith(t, f.url, "runner", 10*time.Minute, time.Minute)) // it follows nothing by itself
	_, dir, _ := begin(t, d)
	put(t, []byte("word"), dir, "stdout")
	let := f.owner.Hold(t, "a")
	var both sync.WaitGroup
	defer both.Wait()
	both.Go(func() { postgres.Follow(d) })
	await(t, "the piece waits for the task", func() bool { return f.waits(t, "insert into studioml.file") })
	both.Go(func() {
		if err := d.Release(); err != nil {
			t.Error(err)
		}
	})
	for soon := time.Now().Add(time.Second); !f.waits(t, "end ends a claim") && time.Now().Before(soon); {
		time.Sleep(5 * time.Millisecond) // the end is not to be said before the piece is there
	}
	let()
	both.Wait()
	if n := f.owner.Count(t, "select count(*) from studioml.file"); n > 0 {
		t.Errorf("%d pieces are left", n)
	}
}
