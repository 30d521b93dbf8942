// Package scheduler moves deliveries from the queue through the gate to the
// GPUs and runs them. It is the only place that fetches tasks.
package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// GPUs gives whole GPUs to tasks.
type GPUs interface {
	Fits(r api.Resources) bool
	Reserve(ctx context.Context, task string, r api.Resources) ([]string, error)
	Free(uuids []string)
}

// preparePause keeps a runner that cannot even prepare attempts, as with a full
// disk, from taking the same task again and again; others may have it meanwhile.
const preparePause = time.Second

// Executor runs one attempt to its end. Store makes the result durable and may
// be called again when it fails. An error means that the attempt could not even
// be prepared, so that it says nothing about the task.
type Executor interface {
	Execute(a Attempt) (result api.Result, store func() error, err error)
}

// Attempt is one start of a task.
type Attempt struct {
	Task      *api.Task
	Number    int
	GPUs      []string
	Started   time.Time
	DrainFile string
	// Terminate and Kill end when the task must stop: with TERM and, after the
	// kill delay, KILL; or with KILL at once.
	Terminate, Kill context.Context
}

// Scheduler fetches and runs tasks, as many at a time as it has slots.
type Scheduler struct {
	slots    chan struct{}
	gate     *gate.Gate
	queue    queue.Queue
	gpus     GPUs
	executor Executor
	log      *slog.Logger

	drainFile string

	mu       sync.Mutex
	draining bool
	running  map[*stopper]struct{}
}

// stopper ends one attempt.
type stopper struct {
	terminate, kill context.CancelCauseFunc
}

// New returns a scheduler. The directory is where it shows the tasks that a
// drain is on.
func New(slots int, g *gate.Gate, q queue.Queue, gpus GPUs, executor Executor, dir string, log *slog.Logger) *Scheduler {
	return &Scheduler{
		slots: make(chan struct{}, slots), gate: g, queue: q, gpus: gpus, executor: executor, log: log,
		drainFile: filepath.Join(dir, "draining"),
		running:   make(map[*stopper]struct{}),
	}
}

// Run fetches and runs tasks until ctx ends; then it kills what runs, gives
// everything back and returns.
func (s *Scheduler) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer s.Stop(lifecycle.Kill)
	for backoff := newBackoff(); ; {
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		free := func() { <-s.slots }
		ticket, err := s.gate.Admit(ctx)
		if err != nil {
			return nil
		}
		delivery, err := s.fetch(ctx, ticket)
		if err != nil {
			ticket.Leave(gate.Nothing)
			free()
			if ctx.Err() == nil && ticket.Context().Err() == nil {
				s.log.Warn("fetch failed", "error", err)
				pause(ctx, backoff.Step())
			}
			continue
		}
		backoff = newBackoff()
		ticket.Fetched()
		uuids, err := s.gpus.Reserve(ticket.Context(), delivery.Task().ID, delivery.Task().Resources)
		if err != nil {
			s.log.Info("task given back", "task", delivery.Task().ID, "reason", "the gate closed before it started")
			s.giveBack(ctx, ticket, delivery)
			free()
			continue
		}
		tasks.Go(func() {
			defer free()
			s.attempt(ctx, ticket, delivery, uuids)
		})
	}
}

// fetch waits for a task that this runner could run.
func (s *Scheduler) fetch(ctx context.Context, ticket *gate.Ticket) (queue.Delivery, error) {
	fetchCtx, cancel := context.WithCancel(ticket.Context())
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	return s.queue.Fetch(fetchCtx, func(t *api.Task) bool { return s.gpus.Fits(t.Resources) })
}

// attempt starts a delivery, waits for its end and settles it. The GPUs are
// free, and the delivery settled, before the ticket leaves the gate: idle means
// that nothing is held.
func (s *Scheduler) attempt(ctx context.Context, ticket *gate.Ticket, d queue.Delivery, uuids []string) {
	task := d.Task()
	log := s.log.With("task", task.ID)
	number, err := d.Begin()
	if err != nil {
		log.Warn("attempt could not be counted, task given back", "error", err)
		s.gpus.Free(uuids)
		s.giveBack(ctx, ticket, d)
		return
	}
	log = log.With("attempt", number)
	a := Attempt{Task: task, Number: number, GPUs: uuids, Started: time.Now(), DrainFile: s.drainFile}
	var stop stopper
	a.Terminate, stop.terminate = context.WithCancelCause(context.Background())
	a.Kill, stop.kill = context.WithCancelCause(context.Background())
	defer stop.kill(nil)
	defer stop.terminate(nil)

	s.mu.Lock()
	started := ticket.Start(api.InFlight{ID: task.ID, Attempt: number, Started: a.Started, GPUs: uuids})
	if started {
		s.running[&stop] = struct{}{}
	}
	s.mu.Unlock()
	if !started {
		log.Info("task given back", "reason", "the gate closed before it started")
		s.gpus.Free(uuids)
		s.giveBack(ctx, ticket, d)
		return
	}
	log.Info("task started", "gpus", uuids)
	result, store, err := s.executor.Execute(a)
	s.mu.Lock()
	delete(s.running, &stop)
	s.mu.Unlock()
	s.gpus.Free(uuids)
	if err != nil {
		log.Warn("attempt could not be prepared, task given back", "error", err)
		s.giveBack(ctx, ticket, d)
		pause(ctx, preparePause)
		return
	}
	log = log.With("outcome", result.Outcome, "exit_code", result.ExitCode, "duration", result.Finished.Sub(result.Started).String())
	if result.Reason != "" {
		log = log.With("reason", result.Reason)
	}
	// R12: stored first, settled then.
	if !s.insist(ctx, "store the result", store) {
		ticket.Leave(gate.Requeued)
		return
	}
	s.settle(ctx, ticket, d, result, log)
}

// settle tells the queue what became of a delivery.
func (s *Scheduler) settle(ctx context.Context, ticket *gate.Ticket, d queue.Delivery, result api.Result, log *slog.Logger) {
	switch result.Outcome {
	case api.Succeeded:
		if s.insist(ctx, "remove the task", d.Ack) {
			log.Info("task finished")
		}
		ticket.Leave(gate.Succeeded)
	case api.Interrupted:
		log.Info("task stopped and given back")
		s.giveBack(ctx, ticket, d)
	default:
		var buried bool
		done := s.insist(ctx, "requeue the failed task", func() (err error) {
			buried, err = d.Retry(fmt.Sprintf("attempt %d: %s", result.Attempt, describe(result)))
			return err
		})
		switch {
		case buried:
			log.Warn("task failed for the last time, moved to the dead letters")
		case done:
			log.Info("task failed, requeued")
		}
		ticket.Leave(gate.Failed)
	}
}

func describe(r api.Result) string {
	if r.Reason != "" {
		return r.Reason
	}
	return fmt.Sprintf("exit status %d", r.ExitCode)
}

// giveBack releases a delivery and its ticket.
func (s *Scheduler) giveBack(ctx context.Context, ticket *gate.Ticket, d queue.Delivery) {
	s.insist(ctx, "give the task back", d.Release)
	ticket.Leave(gate.Requeued)
}

// insist calls do until it succeeds. The process may end first: then the claim
// ends with it, and the queue makes the task ready again.
func (s *Scheduler) insist(ctx context.Context, what string, do func() error) bool {
	for backoff := newBackoff(); ; {
		err := do()
		if err == nil {
			return true
		}
		s.log.Warn("queue does not answer, trying again", "action", what, "error", err)
		if !pause(ctx, backoff.Step()) {
			s.log.Warn("queue left without an answer", "action", what)
			return false
		}
	}
}

// Why tasks are stopped, for their results.
var (
	errDeadline = errors.New("the runner had to drain and its time was over")
	errForced   = errors.New("the runner was forced to exit")
)

// Stop stops the tasks that run now.
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

// SetDraining shows the running tasks whether a drain is on, by a file.
func (s *Scheduler) SetDraining(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on == s.draining {
		return
	}
	s.draining = on
	var err error
	if on {
		err = os.WriteFile(s.drainFile, nil, 0o644)
	} else {
		err = os.Remove(s.drainFile)
	}
	if err != nil {
		s.log.Warn("tasks cannot be told of the drain", "file", s.drainFile, "error", err)
	}
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
