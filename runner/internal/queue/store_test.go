package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/result"
)

// The tests of what owners do.

// save leaves a checkpoint in what an attempt made.
func save(t *testing.T, made *result.Draft, text string) {
	t.Helper()
	dir := filepath.Join(filepath.Dir(made.Stdout()), "checkpoint")
	ok(t, "save", os.Mkdir(dir, 0o755))
	if text != "" {
		ok(t, "save", errors.Join(os.Mkdir(filepath.Join(dir, "sub"), 0o755), os.WriteFile(filepath.Join(dir, "sub", "state"), []byte(text), 0o600),
			os.Symlink("sub/state", filepath.Join(dir, "link"))))
	}
}

// readSaved reads what save left, by the link.
func readSaved(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "link"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	return string(text)
}

// states lists the tasks by state, each with its position if it has one.
func states(t *testing.T, s queue.Store, ids ...string) map[string]string {
	t.Helper()
	all, err := s.List(t.Context(), ids...)
	ok(t, "list", err)
	got := map[string]string{}
	for _, task := range all {
		got[task.ID] = string(task.State)
		if task.Position > 0 {
			got[task.ID] += fmt.Sprint(" ", task.Position)
		}
	}
	return got
}

func wantStates(t *testing.T, s queue.Store, want map[string]string, ids ...string) {
	t.Helper()
	if diff := cmp.Diff(want, states(t, s, ids...)); diff != "" {
		t.Errorf("tasks (-want +got):\n%s", diff)
	}
}

func submitAgain(t *testing.T, f fixture) {
	s := f.Store(t)
	var tasks []*api.Task
	for _, id := range []string{"running", "finished", "dead", "cancelled", "waiting"} {
		tasks = append(tasks, &api.Task{ID: id, Command: "true", MaxAttempts: 1, Env: map[string]string{"A": "<&>", "B": "\u2028"}})
	}
	all, err := s.Submit(t.Context(), append(slices.Clone(tasks), &api.Task{Command: "true"}))
	ok(t, "submit", err)
	for i, done := range all {
		if done.Before != "" || i < len(tasks) && done.ID != tasks[i].ID || done.ID == "" {
			t.Errorf("submit %d gave %+v", i, done)
		}
	}
	q := f.Consumer(t)
	fetchID(t, q, "running")
	done(t, fetchID(t, q, "finished"))
	attempt(t, fetchID(t, q, "dead"), api.Failed, api.TaskDead)
	ok(t, "cancel", s.Cancel(t.Context(), "cancelled"))

	before := states(t, s)
	again, err := s.Submit(t.Context(), append(slices.Clone(tasks), newTask("new")))
	ok(t, "submit again", err)
	want := []queue.Submitted{
		{ID: "running", Before: api.TaskRunning}, {ID: "finished", Before: api.TaskFinished}, {ID: "dead", Before: api.TaskDead},
		{ID: "cancelled", Before: api.TaskCancelled}, {ID: "waiting", Before: api.TaskWaiting}, {ID: "new"},
	}
	if diff := cmp.Diff(want, again); diff != "" {
		t.Errorf("the same again (-want +got):\n%s", diff)
	}
	after := states(t, s)
	delete(after, "new")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("tasks after the same again (-before +after):\n%s", diff)
	}

	// Another one under a known id is an error; what was before it is in.
	other := newTask("finished")
	other.Command = "false"
	some, err := s.Submit(t.Context(), []*api.Task{newTask("x"), other, newTask("y")})
	if err == nil || !strings.Contains(err.Error(), `submit task "finished": id: is in use by another task; choose another id`) {
		t.Errorf("another task under the same id gave %v", err)
	}
	if diff := cmp.Diff([]queue.Submitted{{ID: "x"}}, some); diff != "" {
		t.Errorf("of three, the second bad, (-want +got):\n%s", diff)
	}
	// An invalid one keeps all out.
	for _, second := range []*api.Task{{ID: "../z", Command: "true"}, newTask("z")} {
		if some, err := s.Submit(t.Context(), []*api.Task{newTask("z"), second}); err == nil || len(some) > 0 {
			t.Errorf("an invalid task, or one that is there twice, gave %v, %v", some, err)
		}
	}
	if _, err := s.List(t.Context(), "z", "y"); !errors.Is(err, queue.ErrUnknown) || !strings.Contains(err.Error(), `"y"`) {
		t.Errorf("list of what was not submitted gave %v", err)
	}
}

func list(t *testing.T, f fixture) {
	s := f.Store(t)
	high := onGPUs("high", 1)
	high.Priority = 1
	submit(t, f, "running", "finished", "dead", "first", "second")
	f.Submit(t, high)
	q := f.Consumer(t)
	ok(t, "release", fetchID(t, q, "high").Release())
	cpu := func(class api.Resources) bool { return class.GPUs == 0 }
	fetch := func(want string) queue.Delivery {
		t.Helper()
		d, err := q.Fetch(t.Context(), cpu)
		ok(t, "fetch", err)
		if d.Task().ID != want {
			t.Fatalf("fetched %s, want %s", d.Task().ID, want)
		}
		return d
	}
	begun := time.Now()
	_, err := fetch("running").Begin([]string{"GPU-1", "GPU-2"})
	ok(t, "begin", err)
	done(t, fetch("finished"))
	for range 3 {
		d := fetch("dead")
		n, err := d.Begin(nil)
		ok(t, "begin", err)
		_, err = d.Finish(api.Result{Task: "dead", Attempt: n, Outcome: api.Failed, Reason: "of this"}, files(t, d, n))
		ok(t, "finish", err)
		if n == 1 {
			wantStates(t, s, map[string]string{"dead": "Waiting 4"}, "dead") // behind those that do not pause
		}
		if n < 3 {
			waitFor(t, func() bool {
				all, err := s.List(t.Context(), "dead")
				ok(t, "list", err)
				return all[0].NotBefore.Before(time.Now())
			})
			for _, first := range []string{"first", "second"} {
				ok(t, "cancel", ignore(s.Cancel(t.Context(), first), queue.ErrEnded))
			}
		}
	}
	wantStates(t, s, map[string]string{"high": "Waiting 1", "running": "Running", "finished": "Finished", "dead": "Dead", "first": "Cancelled", "second": "Cancelled"})

	counts, err := q.Length(t.Context())
	ok(t, "count", err)
	if diff := cmp.Diff(map[api.TaskState]int{api.TaskWaiting: 1, api.TaskDead: 1}, counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	all, err := s.List(t.Context(), "running", "dead", "high")
	ok(t, "list", err)
	if len(all) != 3 || all[0].ID != "high" || all[1].ID != "running" || all[2].ID != "dead" {
		t.Fatalf("listed %+v", all)
	}
	if diff := cmp.Diff(high, all[0].Task); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
	if r := all[1]; r.Runner != "runner" || !slices.Equal(r.GPUs, []string{"GPU-1", "GPU-2"}) || r.Starts != 1 || r.Spent != 0 ||
		r.Since.Before(begun.Add(-time.Minute)) || r.Since.After(time.Now().Add(time.Minute)) {
		t.Errorf("running: %+v", r)
	}
	if d := all[2]; d.Reason != "attempt 3: of this" || d.Spent != 3 || d.Since.IsZero() {
		t.Errorf("dead: %+v", d)
	}
}

func ignore(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

// waitFor returns when it is so.
func waitFor(t *testing.T, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never came to be so")
		}
	}
}

func cancel(t *testing.T, f fixture) {
	s := f.Store(t)
	submit(t, f, "waiting", "running", "failing", "released", "succeeds", "later")
	ok(t, "cancel", s.Cancel(t.Context(), "waiting"))
	wantStates(t, s, map[string]string{"waiting": "Cancelled"}, "waiting")
	q := f.Consumer(t)
	for _, end := range []struct {
		id   string
		with func(d queue.Delivery)
		want api.TaskState
	}{
		{"running", func(d queue.Delivery) { attempt(t, d, api.Cancelled, api.TaskCancelled) }, api.TaskCancelled},
		{"failing", func(d queue.Delivery) { attempt(t, d, api.Failed, api.TaskCancelled) }, api.TaskCancelled},
		{"released", func(d queue.Delivery) { ok(t, "release", d.Release()) }, api.TaskCancelled},
		{"succeeds", func(d queue.Delivery) { attempt(t, d, api.Succeeded, api.TaskFinished) }, ""},
	} {
		d := fetchID(t, q, end.id)
		if d.Context().Err() != nil {
			t.Errorf("%s: is to be stopped before it is cancelled", end.id)
		}
		ok(t, "cancel", s.Cancel(t.Context(), end.id))
		select {
		case <-d.Context().Done():
			if cause := context.Cause(d.Context()); !errors.Is(cause, queue.ErrCancelled) {
				t.Errorf("%s: to be stopped for %v", end.id, cause)
			}
		case <-time.After(patience):
			t.Fatalf("%s: the runner does not hear of the cancel", end.id)
		}
		end.with(d)
		if end.want == "" { // it was too late
			wantStates(t, s, map[string]string{end.id: "Finished"}, end.id)
		} else {
			wantStates(t, s, map[string]string{end.id: string(end.want)}, end.id)
			if err := s.Cancel(t.Context(), end.id); !errors.Is(err, queue.ErrEnded) {
				t.Errorf("cancel of %s again: %v", end.id, err)
			}
		}
	}
	done(t, fetchID(t, q, "later"))
	for id, want := range map[string]error{"later": queue.ErrEnded, "unknown": queue.ErrUnknown, "../x": queue.ErrUnknown, "": queue.ErrUnknown} {
		if err := s.Cancel(t.Context(), id); !errors.Is(err, want) {
			t.Errorf("cancel of %q: %v, want %v", id, err, want)
		}
	}
	empty(t, f, q)
}

func again(t *testing.T, f fixture) {
	s := f.Store(t)
	q := f.Consumer(t)
	submit(t, f, "finished")
	done(t, fetchID(t, q, "finished"))
	dead := newTask("dead")
	dead.MaxAttempts = 2
	f.Submit(t, dead)
	attempt(t, fetchID(t, q, "dead"), api.Failed, api.TaskWaiting)
	attempt(t, fetchID(t, q, "dead"), api.Failed, api.TaskDead)
	submit(t, f, "cancelled", "stopped", "waiting", "running")
	ok(t, "cancel", s.Cancel(t.Context(), "cancelled"))
	stopped := fetchID(t, q, "stopped")
	ok(t, "cancel", s.Cancel(t.Context(), "stopped"))
	if err := s.Again(t.Context(), "stopped"); !errors.Is(err, queue.ErrWaits) {
		t.Errorf("again while it is being stopped: %v", err)
	}
	attempt(t, stopped, api.Cancelled, api.TaskCancelled)
	ok(t, "release", fetchID(t, q, "waiting").Release())

	for _, id := range []string{"finished", "dead", "cancelled", "stopped"} {
		ok(t, "again", s.Again(t.Context(), id))
		if err := s.Again(t.Context(), id); !errors.Is(err, queue.ErrWaits) {
			t.Errorf("%s again while it waits: %v", id, err)
		}
	}
	if err := s.Again(t.Context(), "unknown"); !errors.Is(err, queue.ErrUnknown) {
		t.Errorf("again of what is not known: %v", err)
	}
	wantStates(t, s, map[string]string{"waiting": "Waiting 1", "running": "Waiting 2", "finished": "Waiting 3", "dead": "Waiting 4", "cancelled": "Waiting 5", "stopped": "Waiting 6"})
	if letters := f.Dead(t); len(letters) > 0 {
		t.Errorf("dead letters %+v, want none", letters)
	}
	done(t, fetchID(t, q, "waiting"))
	d := fetchID(t, q, "running")
	// The numbers go on, and all attempts are there again.
	kill := f.Doomed(t, "finished", 2, lease)
	if n := attempt(t, fetchID(t, q, "dead"), api.Failed, api.TaskWaiting); n != 3 {
		t.Errorf("attempt %d, want 3", n)
	}
	done(t, fetchID(t, q, "cancelled"))
	done(t, fetchID(t, q, "stopped"))
	done(t, d)
	attempt(t, fetchID(t, q, "dead"), api.Failed, api.TaskDead)
	results, err := s.Results(t.Context(), "dead")
	ok(t, "results", err)
	if len(results) != 4 {
		t.Errorf("%d results, want those of both runs", len(results))
	}
	kill() // its success was in the run before
	if n := attempt(t, fetchID(t, q, "finished"), api.Succeeded, api.TaskFinished); n != 3 {
		t.Errorf("attempt %d, want 3", n)
	}
}

func purge(t *testing.T, f fixture) {
	s := f.Store(t)
	q := f.Consumer(t)
	submit(t, f, "finished", "dead", "cancelled", "running", "waiting")
	done(t, fetchID(t, q, "finished"))
	for range 3 {
		d, err := q.Fetch(t.Context(), anyClass)
		ok(t, "fetch", err)
		if d.Task().ID == "dead" {
			attempt(t, d, api.Failed, api.TaskWaiting)
			break
		}
	}
	ok(t, "cancel", s.Cancel(t.Context(), "cancelled"))
	ok(t, "cancel", s.Cancel(t.Context(), "dead"))
	fetchID(t, q, "running")
	if n, err := s.Purge(t.Context(), time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("purged %d, %v; want none, for all is young", n, err)
	}
	n, err := s.Purge(t.Context(), time.Now().Add(time.Hour))
	if n != 3 || err != nil {
		t.Errorf("purged %d, %v; want what has ended", n, err)
	}
	wantStates(t, s, map[string]string{"running": "Running", "waiting": "Waiting 1"})
	submit(t, f, "finished") // its id is free
	if results, err := s.Results(t.Context(), "finished"); len(results) > 0 || err != nil {
		t.Errorf("results %+v, %v, want none", results, err)
	}
}

// What an attempt leaves can be read, also by others and after a later one.
func kept(t *testing.T, f fixture) {
	s := f.Store(t)
	submit(t, f, "a")
	q := f.Consumer(t)
	for n := 1; n <= 2; n++ {
		d := fetchID(t, q, "a")
		begin(t, d, n)
		made := files(t, d, n)
		ok(t, "write", errors.Join(os.WriteFile(made.Stdout(), []byte(fmt.Sprint("out ", n)), 0o644), os.WriteFile(made.Stderr(), []byte("err"), 0o644)))
		finished := time.Now().UTC().Truncate(time.Second)
		r := api.Result{Task: "a", Attempt: n, Outcome: api.Failed, ExitCode: 7, Runner: "r", Started: finished, Finished: finished, GPUs: []string{"GPU-1"}}
		_, err := d.Finish(r, made)
		ok(t, "finish", err)
		results, err := s.Results(t.Context(), "a")
		ok(t, "results", err)
		if len(results) != n || !cmp.Equal(results[n-1], r) {
			t.Errorf("results %+v, want the last to be %+v", results, r)
		}
	}
	for n := 1; n <= 2; n++ {
		opened, err := s.Files(t.Context(), "a", n)
		ok(t, "files", err)
		for name, want := range map[string]string{"stdout": fmt.Sprint("out ", n), "stderr": "err"} {
			if text, err := fs.ReadFile(opened, name); string(text) != want || err != nil {
				t.Errorf("attempt %d: %s is %q, %v, want %q", n, name, text, err, want)
			}
		}
		ok(t, "close", opened.Close())
	}
	for id, attempt := range map[string]int{"a": 3, "unknown": 1, "../a": 1} {
		if _, err := s.Files(t.Context(), id, attempt); err == nil {
			t.Errorf("there are files of attempt %d of %s", attempt, id)
		}
	}
}
