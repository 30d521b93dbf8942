// Package queuetest is the contract that every implementation of queue.Queue
// must keep, as tests. An implementation runs it from one of its own tests:
//
//	queuetest.Run(t, func(t *testing.T) queuetest.Fixture { … })
package queuetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// Fixture is one empty queue. Each test opens its own.
type Fixture interface {
	// Submit puts a task with an ID at the end of the queue.
	Submit(t *testing.T, task *api.Task)
	// SubmitDocument puts a document into the queue as it is, valid or not.
	SubmitDocument(t *testing.T, document []byte)
	// Consumer connects one more runner to the queue.
	Consumer(t *testing.T) Consumer
	// Dead lists the dead-letter place.
	Dead(t *testing.T) []api.DeadLetter
}

// Consumer is a runner's connection to the queue.
type Consumer interface {
	queue.Queue
	// Crash abandons the connection as the death of the process does.
	Crash()
	// Close ends it in good order.
	Close() error
}

// patience is how long the suite waits for what must happen. It is generous,
// because only a test that fails waits for so long.
const patience = 20 * time.Second

// Run runs the suite; each test opens a queue of its own.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Fixture)
	}{
		{"fetch hands out in the order of submit", fetchOrder},
		{"fetch waits for a submit", fetchWaits},
		{"fetch that is cancelled holds nothing", fetchCancelled},
		{"fetch after the end of its context takes nothing", fetchEnded},
		{"refused tasks stay for others", refusedStay},
		{"each task goes to one of many consumers", exclusive},
		{"ack removes", ackRemoves},
		{"release keeps the task and the attempt", releaseKeeps},
		{"retry goes to the end", retryToEnd},
		{"retry buries after the last attempt", retryBuries},
		{"bury keeps the task and the reason", buryKeeps},
		{"close gives back", closeGivesBack},
		{"a crash gives back", crashGivesBack},
		{"a crash is no attempt that failed", crashIsNoFailure},
		{"a task that kills its runners is buried", poisonTask},
		{"a document that is no task is buried", badDocument},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func anyTask(*api.Task) bool { return true }

func newTask(id string) *api.Task { return &api.Task{ID: id, Command: "true"} }

func submit(t *testing.T, f Fixture, ids ...string) {
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
	d, err := q.Fetch(ctx, anyTask)
	if err != nil {
		t.Fatalf("fetch: %v", err)
	}
	return d
}

// fetchID fetches and requires the task to be this one.
func fetchID(t *testing.T, q queue.Queue, want string) queue.Delivery {
	t.Helper()
	d := fetch(t, q)
	if got := d.Task().ID; got != want {
		t.Fatalf("fetched task %q, want %q", got, want)
	}
	return d
}

// empty submits a last task and requires that nothing comes before it. The
// task proves that the consumer had looked at the whole queue.
func empty(t *testing.T, f Fixture, q queue.Queue) {
	t.Helper()
	submit(t, f, "last")
	ok(t, "ack", fetchID(t, q, "last").Ack())
}

func begin(t *testing.T, d queue.Delivery, want int) {
	t.Helper()
	got, err := d.Begin()
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	if got != want {
		t.Fatalf("begin gave attempt %d, want %d", got, want)
	}
}

func retry(t *testing.T, d queue.Delivery, want bool) {
	t.Helper()
	got, err := d.Retry("exit status 1")
	if err != nil {
		t.Fatalf("retry: %v", err)
	}
	if got != want {
		t.Fatalf("retry buried = %t, want %t", got, want)
	}
}

func ok(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func fetchOrder(t *testing.T, f Fixture) {
	var want, got []string
	for i := range 12 {
		want = append(want, fmt.Sprintf("task-%d", i))
	}
	submit(t, f, want...)
	q := f.Consumer(t)
	for range want {
		d := fetch(t, q)
		got = append(got, d.Task().ID)
		ok(t, "ack", d.Ack())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order of tasks (-want +got):\n%s", diff)
	}
}

func fetchWaits(t *testing.T, f Fixture) {
	q := f.Consumer(t)
	submit(t, f, "refused")
	looked := make(chan struct{})
	var once sync.Once
	fetched := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() {
		d, err := q.Fetch(ctx, func(task *api.Task) bool {
			once.Do(func() { close(looked) })
			return task.ID == "wanted"
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

func fetchCancelled(t *testing.T, f Fixture) {
	q := f.Consumer(t)
	submit(t, f, "refused")
	ctx, cancel := context.WithCancel(t.Context())
	d, err := q.Fetch(ctx, func(*api.Task) bool {
		cancel() // in the middle of the call
		return false
	})
	if d != nil || !errors.Is(err, context.Canceled) {
		t.Fatalf("fetch gave %v, %v; want nothing and %v", d, err, context.Canceled)
	}
	ok(t, "ack", fetchID(t, f.Consumer(t), "refused").Ack())
	submit(t, f, "later")
	ok(t, "ack", fetchID(t, f.Consumer(t), "later").Ack())
}

func fetchEnded(t *testing.T, f Fixture) {
	q := f.Consumer(t)
	submit(t, f, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := q.Fetch(ctx, anyTask); d != nil || !errors.Is(err, context.Canceled) {
		t.Fatalf("fetch gave %v, %v; want nothing and %v", d, err, context.Canceled)
	}
	fetchID(t, f.Consumer(t), "a")
}

func refusedStay(t *testing.T, f Fixture) {
	submit(t, f, "large", "small")
	a, b := f.Consumer(t), f.Consumer(t)
	d, err := a.Fetch(t.Context(), func(task *api.Task) bool { return task.ID == "small" })
	ok(t, "fetch", err)
	if got := d.Task().ID; got != "small" {
		t.Fatalf("fetched %q, which was refused", got)
	}
	fetchID(t, b, "large")
}

func exclusive(t *testing.T, f Fixture) {
	const tasks, consumers, fetchersEach = 40, 4, 2
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var mu sync.Mutex
	got := map[string]int{}
	var fetchers sync.WaitGroup
	done, finish := context.WithCancel(ctx)
	for range consumers {
		q := f.Consumer(t)
		for range fetchersEach {
			fetchers.Go(func() {
				for {
					d, err := q.Fetch(done, anyTask)
					if done.Err() != nil {
						return
					}
					if err != nil {
						t.Errorf("fetch: %v", err)
						return
					}
					if err := d.Ack(); err != nil {
						t.Errorf("ack: %v", err)
					}
					mu.Lock()
					got[d.Task().ID]++
					if len(got) == tasks {
						finish()
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
	finish()
}
