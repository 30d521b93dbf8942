package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
	"github.com/studioml/studio-go-runner/runner/internal/logtest"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/result"
	"github.com/studioml/studio-go-runner/runner/internal/scheduler"
)

// world is a scheduler between fakes that write down what is asked of them.
type world struct {
	*testing.T
	gate      *gate.Gate
	pool      *gpu.Pool
	scheduler *scheduler.Scheduler
	drainFile string
	tasks     chan *api.Task // what the queue hands out

	mu       sync.Mutex
	log      []string
	running  int
	most     int
	outcome  api.Outcome              // of attempts that are not stopped
	hold     chan struct{}            // attempts last until it is closed
	ends     map[string]chan struct{} // or until this is, by task
	failures map[string]int           // how often a call fails before it works
	onBegin  func()                   // called by Begin
	onResume func()                   // called while the checkpoint is copied
	starting func(context.Context)    // called before all that
	sick     string                   // what a check finds
	results  *result.Store            // where attempts make something; nil for nothing
	lost     bool                     // the claims are
	unclaim  context.CancelCauseFunc  // ends the last claim
	stored   []api.Result
	fetched  func()            // called when a task was accepted
	buries   bool              // a retry was the last one
	fetches  []context.Context // of all calls of Fetch
	attempts []scheduler.Attempt
	text     logtest.Text // what the scheduler logs
}

// failing says how often a call is to fail from now on.
func (w *world) failing(call string, times int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures[call] = times
}

func (w *world) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, what)
}

// ending is what ends the attempts of one task when it is closed.
func (w *world) ending(task string) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ends[task] == nil {
		w.ends[task] = make(chan struct{})
	}
	return w.ends[task]
}

func (w *world) fail(what string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failures[what] > 0 {
		w.failures[what]--
		return errors.New("not now")
	}
	return nil
}

func (w *world) noted() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.log)
}

// delivery is a fake delivery.
type delivery struct {
	*world
	task    *api.Task
	claimed context.Context
	stored  bool
}

func (d *delivery) Task() *api.Task                    { return d.task }
func (d *delivery) Context() context.Context           { return d.claimed }
func (d *delivery) Local() (*result.Store, []*os.File) { return nil, nil }
func (d *delivery) Checkpoint(string) error {
	if d.onResume != nil {
		d.onResume()
	}
	return nil
}
func (d *delivery) Begin([]string) (int, error) {
	if d.onBegin != nil {
		d.onBegin()
	}
	return 1, d.fail("begin")
}
func (d *delivery) end(how string) error {
	if err := d.fail(how); err != nil {
		return err
	}
	d.note(how + " " + d.task.ID)
	return nil
}
func (d *delivery) Release() error { return d.end("release") }

// Finish stores the result once, and then does what the outcome asks for.
func (d *delivery) Finish(r api.Result, _ *result.Draft) (api.TaskState, error) {
	if d.lost {
		d.note("lost " + d.task.ID)
		return "", fmt.Errorf("finish: %w", queue.ErrLost)
	}
	if !d.stored {
		if err := d.end("store"); err != nil {
			return "", err
		}
		d.stored = true
		d.mu.Lock()
		d.world.stored = append(d.world.stored, r)
		d.mu.Unlock()
	}
	switch r.Outcome {
	case api.Succeeded:
		return api.TaskFinished, d.end("ack")
	case api.Cancelled:
		return api.TaskCancelled, d.end("ack")
	case api.Interrupted, api.MachineFailed:
		return api.TaskWaiting, d.end("release")
	}
	if d.buries {
		return api.TaskDead, d.end("retry")
	}
	return api.TaskWaiting, d.end("retry")
}

// Fetch implements queue.Queue.
func (w *world) Fetch(ctx context.Context, serves func(api.Resources) bool) (queue.Delivery, error) {
	w.mu.Lock()
	w.fetches = append(w.fetches, ctx)
	w.mu.Unlock()
	for {
		select {
		case t := <-w.tasks:
			if err := w.fail("fetch"); err != nil {
				w.tasks <- t
				return nil, err
			}
			if serves(t.Resources) {
				if w.fetched != nil {
					w.fetched()
				}
				w.mu.Lock()
				defer w.mu.Unlock()
				d := &delivery{world: w, task: t}
				d.claimed, w.unclaim = context.WithCancelCause(context.Background())
				return d, nil
			}
			w.note("refused " + t.ID)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Execute implements scheduler.Executor.
func (w *world) Execute(a scheduler.Attempt) (api.Result, *result.Draft, error) {
	for _, prepare := range []func() error{
		func() error { return w.fail("prepare") },
		func() error { return a.Checkpoint("") },
		a.Start,
		func() error { return w.fail("start") },
	} {
		if err := prepare(); err != nil {
			return api.Result{}, nil, err
		}
	}
	w.mu.Lock()
	w.attempts = append(w.attempts, a)
	w.running++
	w.most = max(w.most, w.running)
	outcome, reason := w.outcome, ""
	w.mu.Unlock()
	w.note("run " + a.Task.ID)
	select {
	case <-w.hold:
	case <-w.ending(a.Task.ID):
	case <-a.Terminate.Done():
		outcome, reason = api.Interrupted, context.Cause(a.Terminate).Error()
		w.note("terminate " + a.Task.ID)
	case <-a.Kill.Done():
		outcome = api.Interrupted
		w.note("kill " + a.Task.ID)
	}
	w.mu.Lock()
	w.running--
	w.mu.Unlock()
	var made *result.Draft
	if w.results != nil {
		var err error
		if made, err = w.results.Begin(a.Task.ID, a.Number); err != nil {
			w.Error(err)
		}
	}
	return api.Result{Task: a.Task.ID, Attempt: a.Number, Outcome: outcome, Reason: reason}, made, nil
}

// play runs a scheduler with two slots and one GPU in a bubble of fake time.
func play(t *testing.T, story func(*world)) {
	t.Helper()
	playOn(t, 2, 1, story)
}

// playOn does so with other numbers of slots and GPUs, which are GPU-0 and on,
// the last with 80 GiB and the others with 40 GiB.
func playOn(t *testing.T, slots, gpus int, story func(*world)) {
	t.Helper()
	within(t)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		devices := make([]gpu.Device, gpus)
		for i := range devices {
			devices[i] = gpu.Device{GPU: api.GPU{UUID: fmt.Sprintf("GPU-%d", i), MemoryBytes: 40 << 30}}
		}
		devices[gpus-1].MemoryBytes = 80 << 30
		w.pool = gpu.NewPool(devices)
		w.run(func() int { return slots }, dir, func() { story(w) })
	})
}

// within ends the process when a test hangs: a bubble does not notice a lock
// that is never released, nor a loop that never ends.
func within(t *testing.T) {
	t.Helper()
	name := t.Name()
	hangs := time.AfterFunc(5*time.Minute, func() { panic(name + " hangs") })
	t.Cleanup(func() { hangs.Stop() })
}

func newWorld(t *testing.T) *world {
	return &world{
		T: t, gate: gate.New(), tasks: make(chan *api.Task, 10), outcome: api.Succeeded,
		hold: make(chan struct{}), ends: make(map[string]chan struct{}), failures: make(map[string]int),
	}
}

// run runs a scheduler while the story goes on.
func (w *world) run(slots func() int, dir string, story func()) {
	w.drainFile = filepath.Join(dir, "draining")
	w.scheduler = scheduler.New(scheduler.Config{
		Slots: slots, Gate: w.gate, Queue: w, GPUs: w.pool, Executor: w,
		Check: func(context.Context, []string) string { return w.sick },
		Starting: func(ctx context.Context) {
			if w.starting != nil {
				w.starting(ctx)
			}
		},
		DrainDir: dir, Log: slog.New(slog.NewTextHandler(&w.text, nil)),
	})
	w.gate.Set(true)
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error)
	go func() { done <- w.scheduler.Run(ctx) }()
	story()
	cancel()
	if err := <-done; err != nil {
		w.Errorf("Run = %v", err)
	}
	if s := w.gate.Snapshot(); !s.Idle {
		w.Errorf("after the end: %+v, want idle", s)
	}
}

func (w *world) want(log ...string) {
	w.Helper()
	synctest.Wait()
	if got := w.noted(); !slices.Equal(got, log) {
		w.Errorf("log %q, want %q", got, log)
	}
}

func cpu(id string) *api.Task { return &api.Task{ID: id, Command: "x"} }
func onGPU(id string) *api.Task {
	return &api.Task{ID: id, Command: "x", Resources: api.Resources{GPUs: 1}}
}
