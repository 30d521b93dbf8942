package queue_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// The tests of what comes when.

func priorityFirst(t *testing.T, f fixture) {
	put := func(id string, priority, gpus int) {
		task := onGPUs(id, gpus)
		task.Priority = priority
		f.Submit(t, task)
	}
	put("low", -10, 0)
	put("usual", 0, 2)
	put("usual-too", 0, 0)
	put("high", 1, 1)
	put("highest", 10, 0)
	q := f.Consumer(t)
	d := fetchID(t, q, "highest")
	ok(t, "release", d.Release()) // to its old place
	for _, want := range []string{"highest", "high", "usual", "usual-too", "low"} {
		done(t, fetchID(t, q, want))
	}
	// What cannot be served keeps nothing of a lower priority.
	put("large", 10, 8)
	put("small", -10, 1)
	d, err := q.Fetch(t.Context(), func(class api.Resources) bool { return class.GPUs < 8 })
	ok(t, "fetch", err)
	if got := d.Task().ID; got != "small" {
		t.Errorf("fetched %s, want small", got)
	}
}

// Classes are told apart by all that they are, and nothing else is asked for.
func classes(t *testing.T, f fixture) {
	want := map[api.Resources]bool{}
	for i, class := range []api.Resources{{}, {GPUs: 1}, {GPUs: 1, GPUMemory: 1}, {GPUs: 64, GPUMemory: 1<<63 - 1}, {GPUs: 1}} {
		f.Submit(t, &api.Task{ID: string(rune('a' + i)), Command: "true", Resources: class})
		want[class] = true
	}
	ctx, cancel := context.WithCancel(t.Context())
	got := map[api.Resources]bool{}
	_, err := f.Consumer(t).Fetch(ctx, func(class api.Resources) bool {
		got[class] = true
		if len(got) == len(want) {
			cancel()
		}
		return false
	})
	if diff := cmp.Diff(want, got); diff != "" || err == nil {
		t.Errorf("classes (-want +got), and the error is %v:\n%s", err, diff)
	}
}

// A class of which nothing waits is not asked for: a runner would say that it leaves
// tasks to others.
func noSuchClass(t *testing.T, f fixture) {
	q := f.Consumer(t)
	f.Submit(t, onGPUs("running", 1))
	f.Submit(t, onGPUs("finished", 2))
	fetchID(t, q, "running")
	done(t, fetchID(t, q, "finished"))
	submit(t, f, "a")
	d, err := q.Fetch(t.Context(), func(class api.Resources) bool {
		if class.GPUs > 0 {
			t.Errorf("asked for tasks with %d GPUs, of which none waits", class.GPUs)
		}
		return class.GPUs == 0
	})
	ok(t, "fetch", err)
	done(t, d)
}

func retryPauses(t *testing.T, f fixture) {
	f.Submit(t, newTask("a"))
	q := f.Consumer(t)
	for failures, least := range []time.Duration{time.Second, 2 * time.Second} {
		d := fetchID(t, q, "a")
		failed := time.Now()
		if n := attempt(t, d, api.Failed, api.TaskWaiting); n != failures+1 {
			t.Errorf("attempt %d, want %d", n, failures+1)
		}
		took := time.Since(failed)
		id := fmt.Sprint("meanwhile-", failures)
		submit(t, f, id)
		all, err := f.Store(t).List(t.Context(), "a")
		ok(t, "list", err)
		if until := all[0].NotBefore.Sub(failed); time.Since(failed) < least && (until < least || until > took+least*3/2+time.Second) {
			t.Errorf("the pause is %s, want %s and up to a half, and the rest of the second", until, least)
		}
		fetched := map[string]queue.Delivery{}
		for range 2 { // the other one first, unless the machine took as long as the pause
			d := fetch(t, q)
			fetched[d.Task().ID] = d
			if paused := time.Since(failed); d.Task().ID == "a" && paused < least {
				t.Errorf("it paused for %s, want %s", paused, least)
			}
		}
		if fetched[id] == nil || fetched["a"] == nil {
			t.Fatalf("fetched %v, want a and %s", fetched, id)
		}
		done(t, fetched[id])
		ok(t, "release", fetched["a"].Release()) // which is not held up again
	}
	done(t, fetchID(t, q, "a"))
}

func expires(t *testing.T, f fixture) {
	task := newTask("late")
	task.Expires = api.Time{Time: time.Now().Add(-time.Second).UTC().Truncate(time.Second)}
	f.Submit(t, task)
	early := newTask("early")
	early.Expires = api.Time{Time: time.Now().Add(time.Hour).UTC().Truncate(time.Second)}
	f.Submit(t, early)
	q := f.Consumer(t)
	done(t, fetchID(t, q, "early"))
	wantDead(t, f, task, "it expired at "+task.Expires.Format(time.RFC3339), 0)
}

// An attempt that was interrupted, or whose machine failed, has its result, and
// the task its old place and all its attempts.
func interrupted(t *testing.T, f fixture) {
	task := newTask("a")
	task.MaxAttempts = 1
	f.Submit(t, task)
	submit(t, f, "b")
	q := f.Consumer(t)
	outcomes := []api.Outcome{api.Interrupted, api.MachineFailed, api.Interrupted, api.Succeeded}
	for i, outcome := range outcomes {
		want := api.TaskWaiting
		if outcome == api.Succeeded {
			want = api.TaskFinished
		}
		if n := attempt(t, fetchID(t, q, "a"), outcome, want); n != i+1 {
			t.Errorf("attempt %d, want %d", n, i+1)
		}
	}
	results, err := f.Store(t).Results(t.Context(), "a")
	ok(t, "results", err)
	for i, outcome := range outcomes {
		if i >= len(results) || results[i].Attempt != i+1 || results[i].Outcome != outcome {
			t.Fatalf("results %+v, want %v", results, outcomes)
		}
	}
}

func checkpoints(t *testing.T, f fixture) {
	f.Submit(t, newTask("a"))
	for i, step := range []struct {
		finds, leaves string
		outcome       api.Outcome
		none          bool // leaves no checkpoint at all
	}{
		{finds: "", leaves: "one", outcome: api.Interrupted},
		{finds: "one", leaves: "two", outcome: api.Failed},
		{finds: "two", none: true, outcome: api.Interrupted},
		{finds: "two", leaves: "", outcome: api.Interrupted},
		{finds: "", leaves: "three", outcome: api.MachineFailed},
		{finds: "three", none: true, outcome: api.Succeeded},
	} {
		q := f.Consumer(t) // on another runner each time
		d := fetchID(t, q, "a")
		n, err := d.Begin(nil)
		ok(t, "begin", err)
		dir := t.TempDir()
		ok(t, "checkpoint", d.Checkpoint(dir))
		if got := readSaved(t, dir); got != step.finds {
			t.Errorf("attempt %d finds %q, want %q", i+1, got, step.finds)
		}
		made := files(t, d, n)
		if !step.none {
			save(t, made, step.leaves)
		}
		_, err = d.Finish(api.Result{Task: "a", Attempt: n, Outcome: step.outcome}, made)
		ok(t, "finish", err)
		ok(t, "close", q.Close())
	}
	// It does not outlive the success.
	ok(t, "again", f.Store(t).Again(t.Context(), "a"))
	d := fetchID(t, f.Consumer(t), "a")
	dir := t.TempDir()
	ok(t, "checkpoint", d.Checkpoint(dir))
	if got := readSaved(t, dir); got != "" {
		t.Errorf("a run after the success finds %q, want nothing", got)
	}
}
