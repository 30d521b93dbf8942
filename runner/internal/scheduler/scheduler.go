// Package scheduler moves deliveries from the queue through the gate to the
// GPUs and runs them. It is the only place that fetches tasks.
package scheduler

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/result"
)

// Executor runs one attempt to its end. made is what it leaves beside its result,
// at rest. An error means that Start said no, or that the machine refused what the
// attempt needs, so that it says nothing about the task.
type Executor interface {
	Execute(a Attempt) (r api.Result, made *result.Draft, err error)
}

// Attempt is one start of a task.
type Attempt struct {
	Task      *api.Task
	Number    int
	GPUs      []string
	DrainFile string
	// Results is where the attempt makes what is kept of it, Checkpoint copies what
	// the attempts before have left into an empty directory.
	Results    *result.Store
	Checkpoint func(dir string) error
	// Start must be asked when all is prepared, right before the process is started, and
	// be obeyed. Its error says why the attempt must not start any more.
	Start func() error
	// Held are files that must stay open for as long as a process of the attempt
	// lives, whatever becomes of this one.
	Held []*os.File
	// Drained says whether a drain was on at any moment since the begin.
	Drained func() bool
	// Terminate and Kill end when the task must stop: with TERM and, after the
	// kill delay, KILL; or with KILL at once.
	Terminate, Kill context.Context
}

// Config is what a scheduler works with.
type Config struct {
	// Slots is how many tasks may run at the same time, now.
	Slots    func() int
	Gate     *gate.Gate
	Queue    queue.Queue
	GPUs     *gpu.Pool
	Executor Executor
	// Check is asked after an attempt failed by itself whether one of its GPUs
	// has become sick, and answers with the reason, or the empty text. By then
	// it must have told the pool, or the next task gets that GPU. It bounds its
	// own time. nil means that nobody looks.
	Check func(ctx context.Context, uuids []string) (sick string)
	// Starting is called before each attempt, and may keep it waiting for a moment, but
	// not behind a closed gate. nil is for nobody who wants to know.
	Starting func(ctx context.Context)
	// DrainDir is where the tasks are shown that a drain is on.
	DrainDir string
	Log      *slog.Logger
}

// Scheduler fetches and runs tasks, as many at a time as it has slots.
type Scheduler struct {
	Config
	drainFile string
	left      chan struct{} // holds a token when a task has left its slot
	tasks     sync.WaitGroup

	// Only Run touches these.
	head    *fetched                   // comes next; nil for none
	unfit   map[api.Resources]struct{} // classes that were refused, and said so
	backoff *wait.Backoff

	mu       sync.Mutex
	draining bool
	running  map[*stopper]struct{} // of all attempts, from before they begin: one for each slot in use
	refusals *wait.Backoff         // how long to pause when the machine refuses an attempt
}

// stopper ends one attempt.
type stopper struct {
	drained            atomic.Bool // a drain was on at any moment since it was made
	terminated, killed context.Context
	terminate, kill    context.CancelCauseFunc
}

// newStopper returns a stopper that Stop knows, from before the attempt begins:
// that may take long, and a stop must not miss it.
func (s *Scheduler) newStopper() *stopper {
	stop := new(stopper)
	stop.terminated, stop.terminate = context.WithCancelCause(context.Background())
	stop.killed, stop.kill = context.WithCancelCause(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	stop.drained.Store(s.draining)
	s.running[stop] = struct{}{}
	return stop
}

// forget must be called when the attempt is over.
func (s *Scheduler) forget(stop *stopper) {
	s.mu.Lock()
	delete(s.running, stop)
	s.mu.Unlock()
	stop.terminate(nil)
	stop.kill(nil)
}

// New returns a scheduler.
func New(c Config) *Scheduler {
	return &Scheduler{
		Config:    c,
		drainFile: filepath.Join(c.DrainDir, "draining"),
		left:      make(chan struct{}, 1),
		backoff:   newBackoff(),
		unfit:     make(map[api.Resources]struct{}),
		running:   make(map[*stopper]struct{}),
		refusals:  newRefusals(),
	}
}

// attempt starts a delivery, waits for its end and settles it. The GPUs are
// free, and the delivery settled, before the ticket leaves the gate: idle means
// that nothing is held.
func (s *Scheduler) attempt(ctx context.Context, ticket *gate.Ticket, d queue.Delivery, uuids []string, stop *stopper) {
	task := d.Task()
	if s.Starting != nil {
		s.Starting(ticket.Context())
	}
	number, err := d.Begin(uuids)
	if err != nil {
		s.Log.Warn("attempt could not be counted, task given back", "task", task.ID, "error", err)
		s.GPUs.Free(uuids)
		s.giveBack(ctx, ticket, d)
		s.refused(ctx)
		return
	}
	which := []any{"task", task.ID, "attempt", number} // once, as a logger of it costs what a line does
	a := Attempt{
		Task: task, Number: number, GPUs: uuids, DrainFile: s.drainFile,
		Drained: stop.drained.Load, Checkpoint: d.Checkpoint, Terminate: stop.terminated, Kill: stop.killed,
	}
	a.Results, a.Held = d.Local()
	a.Held = append(a.Held, s.GPUs.Locks(uuids)...)
	a.Start = func() error {
		if err := s.pass(ticket, a); err != nil {
			return err
		}
		s.Log.Info("task started", append(which, "gpus", uuids)...)
		return nil
	}
	defer context.AfterFunc(d.Context(), func() { stop.terminate(context.Cause(d.Context())) })()
	r, made, err := s.execute(a, stop.terminate)
	if err == nil {
		r = s.blame(ctx, a, r)
	}
	ticket.Freed()
	s.GPUs.Free(uuids)
	if errors.As(err, new(notStarted)) {
		s.Log.Info("task given back", append(which, "reason", err)...)
		s.giveBack(ctx, ticket, d)
		return
	}
	if err != nil {
		ticket.Refused()
		s.Log.Warn("attempt could not be prepared, task given back", append(which, "error", err)...)
		s.giveBack(ctx, ticket, d)
		s.refused(ctx)
		return
	}
	s.mu.Lock()
	s.refusals = newRefusals()
	s.mu.Unlock()
	which = append(which, "outcome", r.Outcome, "exit_code", r.ExitCode, "duration", r.Finished.Sub(r.Started).String())
	if r.Reason != "" {
		which = append(which, "reason", r.Reason)
	}
	ticket.Leave(s.finish(ctx, d, r, made, s.Log.With(which...)))
}

// notStarted is why an attempt did not start, for which there is nothing to blame.
type notStarted string

func (n notStarted) Error() string { return string(n) }

// pass is the last look at what may keep an attempt from its start.
func (s *Scheduler) pass(ticket *gate.Ticket, a Attempt) error {
	s.mu.Lock() // so that Stop comes before this, or finds the task running
	defer s.mu.Unlock()
	if err := cmp.Or(context.Cause(a.Kill), context.Cause(a.Terminate)); err != nil {
		return notStarted("stopped before it started: " + err.Error())
	}
	if !ticket.Start(api.InFlight{ID: a.Task.ID, Attempt: a.Number, Started: time.Now(), GPUs: a.GPUs}) {
		return notStarted("the gate closed before it started")
	}
	return nil
}

// execute runs an attempt, and terminates it when one of its GPUs is sick.
func (s *Scheduler) execute(a Attempt, terminate context.CancelCauseFunc) (api.Result, *result.Draft, error) {
	running, ended := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	defer watch.Wait()
	defer ended()
	watch.Go(func() {
		for running.Err() == nil {
			state := s.GPUs.State()
			if sick := s.GPUs.Sick(a.GPUs); sick != "" {
				terminate(sickGPU(sick))
				return
			}
			select {
			case <-state.Done():
			case <-running.Done():
			}
		}
	})
	return s.Executor.Execute(a)
}

// endings are what an outcome counts as.
var endings = map[api.Outcome]gate.Ending{
	api.Succeeded: gate.Succeeded, api.Failed: gate.Failed, api.TimedOut: gate.Failed,
	api.Cancelled: gate.Cancelled, api.Interrupted: gate.Requeued, api.MachineFailed: gate.MachineFailed,
}

// finish tells the queue what became of a delivery.
func (s *Scheduler) finish(ctx context.Context, d queue.Delivery, r api.Result, made *result.Draft, log *slog.Logger) gate.Ending {
	var state api.TaskState
	err := s.insist(ctx, "store the result", func() (err error) {
		state, err = d.Finish(r, made)
		return err
	})
	ending := endings[r.Outcome]
	switch {
	case errors.Is(err, queue.ErrLost):
		log.Warn("task is another runner's, its result is not stored", "left", made.Discard())
		ending = gate.Requeued
	case err != nil: // which was said
	case state == api.TaskFinished:
		log.Info("task finished")
	case state == api.TaskCancelled:
		log.Info("task cancelled")
	case state == api.TaskDead:
		log.Warn("task failed for the last time, moved to the dead letters")
	case ending == gate.MachineFailed:
		log.Warn("task given back, its machine failed")
	case ending == gate.Requeued:
		log.Info("task stopped and given back")
	default:
		log.Info("task failed, requeued")
	}
	return ending
}

// giveBack releases a delivery and its ticket.
func (s *Scheduler) giveBack(ctx context.Context, ticket *gate.Ticket, d queue.Delivery) {
	s.insist(ctx, "give the task back", d.Release)
	ticket.Leave(gate.Requeued)
}

// insist calls do until it succeeds or the claim is lost. The process may end
// first: then the claim ends with it, and the queue makes the task ready again.
func (s *Scheduler) insist(ctx context.Context, what string, do func() error) error {
	for backoff := newBackoff(); ; {
		err := do()
		if err == nil || errors.Is(err, queue.ErrLost) {
			return err
		}
		s.Log.Warn("failed, trying again", "action", what, "error", err)
		if !pause(ctx, backoff.Step()) {
			s.Log.Warn("given up, because the runner ends", "action", what)
			return err
		}
	}
}

// Why tasks are stopped, for their results.
var (
	errDeadline = errors.New("the runner had to drain and its time was over")
	errForced   = errors.New("the runner was forced to exit")
)

// Stop stops the tasks that run now or are about to.
func (s *Scheduler) Stop(how lifecycle.Stop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.running {
		switch how {
		case lifecycle.Kill:
			r.kill(errForced)
		case lifecycle.Terminate:
			r.terminate(errDeadline)
		}
	}
}

// SetDraining shows the running tasks whether a drain is on, by a file. It is
// called with each news of the runner, and does again what did not work before or
// a cleaner of /tmp has undone.
func (s *Scheduler) SetDraining(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := on != s.draining
	s.draining = on
	for r := range s.running { // before a task can see it, and end for that
		r.drained.Store(on || r.drained.Load())
	}
	var err error
	switch _, missing := os.Lstat(s.drainFile); {
	case on && missing != nil:
		err = errors.Join(os.MkdirAll(s.DrainDir, 0o755), os.WriteFile(s.drainFile, nil, 0o644))
	case !on && missing == nil:
		err = os.Remove(s.drainFile)
	}
	if err != nil && news {
		s.Log.Warn("tasks cannot be told of the drain; trying again", "file", s.drainFile, "error", err)
	}
}

// refused waits after an attempt that the machine refused, as with a full disk or
// without descriptors: longer each time, so that this runner does not eat the
// queue. Others may have the task meanwhile.
func (s *Scheduler) refused(ctx context.Context) {
	s.mu.Lock()
	wait := s.refusals.Step()
	s.mu.Unlock()
	pause(ctx, wait)
}

func newRefusals() *wait.Backoff {
	return &wait.Backoff{Duration: time.Second, Factor: 2, Steps: 10, Cap: time.Minute}
}

// newBackoff returns the pauses between tries: short at first, because most
// outages are, and never so long that a person wonders.
func newBackoff() *wait.Backoff {
	return &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 10, Cap: 5 * time.Second}
}

// pause waits, and returns false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
