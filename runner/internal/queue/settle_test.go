package queue_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// The tests of what ends a delivery.

func successRemoves(t *testing.T, f fixture) {
	submit(t, f, "a")
	q := f.Consumer(t)
	d := fetchID(t, q, "a")
	done(t, d)
	empty(t, f, q)
	ok(t, "close", q.Close()) // gives nothing back
	submit(t, f, "b")
	fetchID(t, f.Consumer(t), "b")
}

func releaseKeeps(t *testing.T, f fixture) {
	task := newTask("a")
	task.MaxAttempts = 1
	f.Submit(t, task)
	submit(t, f, "b")
	q := f.Consumer(t)

	ok(t, "release", fetchID(t, q, "a").Release())
	// Still before b. Its only attempt is not used up, but its number is.
	d := fetchID(t, q, "a")
	begin(t, d, 1)
	ok(t, "release", d.Release())
	d = fetchID(t, q, "a")
	begin(t, d, 2)
	if diff := cmp.Diff(task, d.Task()); diff != "" {
		t.Errorf("document after two releases (-want +got):\n%s", diff)
	}
	finish(t, d, 2, api.Succeeded, api.TaskFinished)
	done(t, fetchID(t, q, "b"))
}

func retryToEnd(t *testing.T, f fixture) {
	submit(t, f, "a", "b")
	q := f.Consumer(t)
	attempt(t, fetchID(t, q, "a"), api.Failed, api.TaskWaiting)
	done(t, fetchID(t, q, "b"))
	d := fetchID(t, q, "a")
	if n := attempt(t, d, api.Succeeded, api.TaskFinished); n != 2 {
		t.Errorf("the attempt has the number %d, want 2", n)
	}
}

func retryBuries(t *testing.T, f fixture) {
	task := newTask("a")
	task.MaxAttempts = 2
	f.Submit(t, task)
	q := f.Consumer(t)
	attempt(t, fetchID(t, q, "a"), api.Failed, api.TaskWaiting)
	attempt(t, fetchID(t, q, "a"), api.TimedOut, api.TaskDead)
	wantDead(t, f, task, "exit status 1", 2)
	empty(t, f, q)
}

func buryKeeps(t *testing.T, f fixture) {
	task := newTask("a")
	task.Args = []string{"\x7f", "ü", "<>&", "\u2028", ""}
	task.Env = map[string]string{"A": "b\nc"}
	task.MaxAttempts = 1
	f.Submit(t, task)
	q := f.Consumer(t)
	attempt(t, fetchID(t, q, "a"), api.Failed, api.TaskDead)
	wantDead(t, f, task, "attempt 1: exit status 1", 1)
	empty(t, f, q)
}

func closeGivesBack(t *testing.T, f fixture) {
	task := newTask("a")
	task.MaxAttempts = 1
	f.Submit(t, task)
	submit(t, f, "b")
	q := f.Consumer(t)
	begin(t, fetchID(t, q, "a"), 1)
	fetchID(t, q, "b")
	// A server that is too busy for a runner's last words hears its silence.
	err := q.Close()
	ok(t, "close", ignore(err, queue.ErrAway))
	if err == nil {
		wantStates(t, f.Store(t), map[string]string{"a": "Waiting 1", "b": "Waiting 2"})
	}

	other := f.Consumer(t)
	begin(t, fetchID(t, other, "a"), 2)
	fetchID(t, other, "b")
}

func crashGivesBack(t *testing.T, f fixture) {
	submit(t, f, "a")
	other := f.Consumer(t)
	f.Doomed(t, "a", 0, brief)()
	begin(t, fetchID(t, other, "a"), 1) // it had not begun
}

// The death of a runner is none of the attempts that a task may fail.
func crashIsNoFailure(t *testing.T, f fixture) {
	task := newTask("a")
	task.MaxAttempts = 2
	f.Submit(t, task)
	for attempt := 1; attempt <= 3; attempt++ {
		f.Doomed(t, "a", attempt, brief)()
	}
	q := f.Consumer(t)
	for n := 4; n <= 5; n++ {
		d := fetchID(t, q, "a")
		begin(t, d, n)
		finish(t, d, n, api.Failed, map[int]api.TaskState{4: api.TaskWaiting, 5: api.TaskDead}[n])
	}
	wantDead(t, f, task, "exit status 1", 2)
}

// But there is a limit of its own for them, and starts that ended well do not
// count for it.
func poisonTask(t *testing.T, f fixture) {
	task := newTask("a")
	f.Submit(t, task)
	q := f.Consumer(t)
	for n := 1; n <= 20; n += 2 {
		d := fetchID(t, q, "a")
		begin(t, d, n)
		ok(t, "release", d.Release())
		f.Doomed(t, "a", n+1, brief)()
	}
	// Whoever looks for work buries it, as soon as the last death is known.
	ctx, found := context.WithTimeout(t.Context(), patience)
	defer found()
	fetched := make(chan queue.Delivery, 1)
	go func() {
		d, _ := q.Fetch(ctx, anyClass)
		fetched <- d
	}()
	for len(f.Dead(t)) == 0 && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	found()
	if d := <-fetched; d != nil {
		t.Errorf("fetched task %s once more", d.Task().ID)
	}
	wantDead(t, f, task, "10 runners died", 0)
}

func badDocument(t *testing.T, f fixture) {
	documents := []string{
		"{\x1b[31m",
		"",
		`{"id": "x"}`,
		`{"id": "x", "command": "true", "timeoot": "1s"}`,
		`{"id": "../x", "command": "true"}`,
		`{"id": "x", "command": "true", "` + strings.Repeat("x", 5000) + `": 1}`,
		`null`,
		strings.Repeat("x", api.MaxTaskBytes+1),
	}
	q := f.Consumer(t)
	for _, d := range documents {
		f.SubmitDocument(t, []byte(d))
	}
	submit(t, f, "good")
	done(t, fetchID(t, q, "good"))
	empty(t, f, q)

	got := map[string]bool{}
	for _, letter := range f.Dead(t) {
		got[letter.Document] = true
		if letter.Task != nil || letter.Reason == "" {
			t.Errorf("dead letter of %s has task %v and reason %q, want no task and a reason",
				api.Excerpt(letter.Document), letter.Task, letter.Reason)
		}
		if len(letter.Reason) > 1000 || strings.ContainsRune(letter.Reason, '\x1b') {
			t.Errorf("reason is not shortened or not escaped: %q", letter.Reason[:min(len(letter.Reason), 1000)])
		}
	}
	for _, d := range documents {
		if !got[d[:min(len(d), api.MaxTaskBytes)]] {
			t.Errorf("no dead letter for %s", api.Excerpt(d))
		}
	}
}

// wantDead requires one dead letter, with this task and a reason like this.
func wantDead(t *testing.T, f fixture, task *api.Task, reason string, attempts int) {
	t.Helper()
	dead := f.Dead(t)
	if len(dead) != 1 {
		t.Fatalf("%d dead letters, want 1: %+v", len(dead), dead)
	}
	if diff := cmp.Diff(task, dead[0].Task); diff != "" {
		t.Errorf("dead task (-want +got):\n%s", diff)
	}
	if !strings.Contains(dead[0].Reason, reason) {
		t.Errorf("reason is %q, want %q in it", dead[0].Reason, reason)
	}
	if dead[0].Attempts != attempts {
		t.Errorf("attempts are %d, want %d", dead[0].Attempts, attempts)
	}
	if dead[0].Time.IsZero() {
		t.Error("dead letter has no time")
	}
}
