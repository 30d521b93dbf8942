package queue_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/result"
)

// fixture is one empty queue. Each test opens its own.
type fixture interface {
	// Submit puts a task with an ID at the end of the queue.
	Submit(t *testing.T, task *api.Task)
	// SubmitDocument puts a document into the queue as it is, valid or not.
	SubmitDocument(t *testing.T, document []byte)
	// Consumer connects one more runner to the queue, with the name runner.
	Consumer(t *testing.T) connection
	// Doomed starts a runner, doomed, that fetches this task, and begins it as this attempt
	// if that is not 0, on a GPU-1, with last words. Its process dies by kill. Where runners have leases it has this one.
	Doomed(t *testing.T, id string, attempt int, lease time.Duration) (kill func())
	// Store connects an owner of tasks to the queue.
	Store(t *testing.T) queue.Store
	// Dead lists the dead-letter place.
	Dead(t *testing.T) []api.DeadLetter
}

// patience is how long the suite waits for what must happen. It is generous,
// because only a test that fails waits for so long.
const patience = time.Minute

// TestContract is what every implementation of queue.Queue and queue.Store must keep.
//
// catalogue: row 78, 79
func TestContract(t *testing.T) {
	t.Run("spool", func(t *testing.T) { contract(t, newDirectory) })
	t.Run("postgres", func(t *testing.T) {
		server, err := pgserver.Start(pgserver.Hasty)
		ok(t, "start", err)
		t.Cleanup(func() {
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		})
		contract(t, func(t *testing.T) fixture { return newDatabase(t, server) })
	})
}

func contract(t *testing.T, open func(t *testing.T) fixture) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, fixture)
	}{
		{"fetch hands out in the order of submit", fetchOrder},
		{"fetch waits for a submit", fetchWaits},
		{"fetch that is cancelled holds nothing", fetchCancelled},
		{"fetch after the end of its context takes nothing", fetchEnded},
		{"refused tasks stay for others", refusedStay},
		{"each task goes to one of many consumers", exclusive},
		{"success removes", successRemoves},
		{"release keeps the task and the attempt", releaseKeeps},
		{"retry goes to the end", retryToEnd},
		{"retry buries after the last attempt", retryBuries},
		{"a dead letter keeps the task and the reason", buryKeeps},
		{"close gives back", closeGivesBack},
		{"a crash gives back", crashGivesBack},
		{"a crash is no attempt that failed", crashIsNoFailure},
		{"a task that kills its runners is buried", poisonTask},
		{"a document that is no task is buried", badDocument},
		{"a higher priority comes first", priorityFirst},
		{"classes are told apart", classes},
		{"only classes that wait are asked for", noSuchClass},
		{"a retry pauses", retryPauses},
		{"what has expired is buried", expires},
		{"an interruption keeps its result and spends nothing", interrupted},
		{"a checkpoint goes on with the task", checkpoints},
		{"the same document again changes nothing", submitAgain},
		{"list says where each task is", list},
		{"cancel", cancel},
		{"again", again},
		{"purge", purge},
		{"what an attempt leaves can be read", kept},
		{"what an attempt leaves can be copied", copied},
		{"an attempt that dies with its runner has a result", died},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // many of them wait for a pause
			test.run(t, open(t))
		})
	}
}

func anyClass(api.Resources) bool { return true }

func newTask(id string) *api.Task { return &api.Task{ID: id, Command: "true"} }

func onGPUs(id string, gpus int) *api.Task {
	return &api.Task{ID: id, Command: "true", Resources: api.Resources{GPUs: gpus}}
}

func submit(t *testing.T, f fixture, ids ...string) {
	t.Helper()
	for _, id := range ids {
		f.Submit(t, newTask(id))
	}
}

// fetch returns the next task, which must come.
func fetch(t *testing.T, q queue.Queue) queue.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d, err := q.Fetch(ctx, anyClass)
	if err != nil {
		t.Fatalf("fetch: %v", err)
	}
	return d
}

// fetchID fetches and requires the task to be this one. A sign of life, or somebody
// else's look, may hold a task for a moment, so that it is passed over: what came in
// its place is given back then, to its own place.
func fetchID(t *testing.T, q queue.Queue, want string) queue.Delivery {
	t.Helper()
	for end := time.Now().Add(patience / 4); ; {
		d := fetch(t, q)
		got := d.Task().ID
		if got == want {
			return d
		}
		ok(t, "release", d.Release())
		if time.Now().After(end) {
			t.Fatalf("fetched task %q, want %q", got, want)
		}
	}
}

// empty submits a last task and requires that nothing comes before it. The
// task proves that the consumer had looked at the whole queue.
func empty(t *testing.T, f fixture, q queue.Queue) {
	t.Helper()
	submit(t, f, "last")
	done(t, fetchID(t, q, "last"))
}

func begin(t *testing.T, d queue.Delivery, want int) {
	t.Helper()
	got, err := d.Begin(nil)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	if got != want {
		t.Fatalf("begin gave attempt %d, want %d", got, want)
	}
}

// attempt begins and ends an attempt, of whatever number, and returns the number.
func attempt(t *testing.T, d queue.Delivery, outcome api.Outcome, want api.TaskState) int {
	t.Helper()
	number, err := d.Begin(nil)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	finish(t, d, number, outcome, want)
	return number
}

// finish ends an attempt that had begun.
func finish(t *testing.T, d queue.Delivery, number int, outcome api.Outcome, want api.TaskState) {
	t.Helper()
	made := files(t, d, number)
	got, err := d.Finish(api.Result{Task: d.Task().ID, Attempt: number, Outcome: outcome, ExitCode: 1}, made)
	if err != nil {
		t.Fatalf("finish: %v", err)
	}
	if got != want {
		t.Fatalf("the task is %s after an attempt that has %s, want %s", got, outcome, want)
	}
}

// files makes what an attempt leaves.
func files(t *testing.T, d queue.Delivery, number int) *result.Draft {
	t.Helper()
	results, _ := d.Local()
	made, err := results.Begin(d.Task().ID, number)
	if err != nil {
		t.Fatalf("prepare attempt %d: %v", number, err)
	}
	for _, output := range []string{made.Stdout(), made.Stderr()} {
		ok(t, "write output", os.WriteFile(output, []byte(filepath.Base(output)), 0o644))
	}
	return made
}

// done lets a delivery succeed.
func done(t *testing.T, d queue.Delivery) {
	t.Helper()
	attempt(t, d, api.Succeeded, api.TaskFinished)
}

func ok(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func fetchOrder(t *testing.T, f fixture) {
	var want, got []string
	for i := range 12 {
		want = append(want, fmt.Sprintf("task-%d", i))
	}
	submit(t, f, want...)
	q := f.Consumer(t)
	for range want {
		d := fetch(t, q)
		got = append(got, d.Task().ID)
		done(t, d)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order of tasks (-want +got):\n%s", diff)
	}
}

func fetchWaits(t *testing.T, f fixture) {
	q := f.Consumer(t)
	f.Submit(t, onGPUs("refused", 8))
	looked := make(chan struct{})
	var once sync.Once
	fetched := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() {
		d, err := q.Fetch(ctx, func(class api.Resources) bool {
			once.Do(func() { close(looked) })
			return class.GPUs == 0
		})
		if err == nil && d.Task().ID != "wanted" {
			err = fmt.Errorf("fetched %s", d.Task().ID)
		}
		fetched <- err
	}()
	<-looked // the consumer has looked before the task is there
	submit(t, f, "wanted")
	ok(t, "fetch", <-fetched)
}

func fetchCancelled(t *testing.T, f fixture) {
	q := f.Consumer(t)
	submit(t, f, "refused")
	ctx, cancel := context.WithCancel(t.Context())
	d, err := q.Fetch(ctx, func(api.Resources) bool {
		cancel() // in the middle of the call
		return false
	})
	if d != nil || !errors.Is(err, context.Canceled) {
		t.Fatalf("fetch gave %v, %v; want nothing and %v", d, err, context.Canceled)
	}
	done(t, fetchID(t, f.Consumer(t), "refused"))
	submit(t, f, "later")
	done(t, fetchID(t, f.Consumer(t), "later"))
}

func fetchEnded(t *testing.T, f fixture) {
	q := f.Consumer(t)
	submit(t, f, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := q.Fetch(ctx, anyClass); d != nil || !errors.Is(err, context.Canceled) {
		t.Fatalf("fetch gave %v, %v; want nothing and %v", d, err, context.Canceled)
	}
	fetchID(t, f.Consumer(t), "a")
}

func refusedStay(t *testing.T, f fixture) {
	f.Submit(t, onGPUs("large", 2))
	f.Submit(t, onGPUs("small", 1))
	a, b := f.Consumer(t), f.Consumer(t)
	d, err := a.Fetch(t.Context(), func(class api.Resources) bool { return class.GPUs == 1 })
	ok(t, "fetch", err)
	if got := d.Task().ID; got != "small" {
		t.Fatalf("fetched %q, which was refused", got)
	}
	fetchID(t, b, "large")
}

func exclusive(t *testing.T, f fixture) {
	const tasks, consumers, fetchersEach = 40, 4, 2
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var mu sync.Mutex
	got := map[string]int{}
	var fetchers sync.WaitGroup
	until, enough := context.WithCancel(ctx)
	for range consumers {
		q := f.Consumer(t)
		for range fetchersEach {
			fetchers.Go(func() {
				for {
					d, err := q.Fetch(until, anyClass)
					if until.Err() != nil {
						return
					}
					if err != nil {
						t.Errorf("fetch: %v", err)
						return
					}
					done(t, d)
					mu.Lock()
					got[d.Task().ID]++
					if len(got) == tasks {
						enough()
					}
					mu.Unlock()
				}
			})
		}
	}
	want := map[string]int{}
	for i := range tasks {
		id := fmt.Sprintf("task-%d", i)
		want[id] = 1
		submit(t, f, id)
	}
	fetchers.Wait()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("how often each task was handed out (-want +got):\n%s", diff)
	}
	enough()
}
