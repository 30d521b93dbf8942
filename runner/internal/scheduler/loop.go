package scheduler

import (
	"context"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// overtakeLimit is how many tasks may take GPUs that the head could use while
// it waits for more of them. More keeps GPUs busy for longer, less starts the
// head earlier; this is two rounds of 1-GPU tasks on the usual 8 GPUs.
const overtakeLimit = 16

// fetched is a delivery that has a ticket of the gate and was not started yet.
//
// The one that comes next, and may have to wait for GPUs, is the head. There is at
// most one: any further one would be kept from other runners that could start it.
//
// While the head waits, tasks that fit into what is free are fetched past it,
// so that no GPU is idle for its sake. No more than overtakeLimit of them get
// GPUs that the head could use; after that, such GPUs are kept for it. So a task
// that has become the head waits for the tasks that ran then and overtakeLimit
// others, and for no more: if none takes longer than D, it starts within
// (1+overtakeLimit)*D. Tasks that need no GPU, or get GPUs that the head cannot
// use, do not put it off and are not counted.
type fetched struct {
	ticket   *gate.Ticket
	delivery queue.Delivery
	overtook int // how many tasks have overtaken it as the head
}

func (h *fetched) task() *api.Task { return h.delivery.Task() }

// Run fetches and runs tasks until ctx ends; then it kills what runs, gives
// everything back and returns.
func (s *Scheduler) Run(ctx context.Context) error {
	defer s.tasks.Wait()
	defer s.Stop(lifecycle.Kill)
	for s.head != nil || ctx.Err() == nil {
		s.turn(ctx)
	}
	return nil
}

// turn looks at what is so now and does the one thing that is due, or waits
// until something else is so.
func (s *Scheduler) turn(ctx context.Context) {
	same, changed := context.WithCancel(ctx)
	defer changed()
	defer context.AfterFunc(s.GPUs.State(), changed)()
	if h := s.head; h != nil {
		defer context.AfterFunc(h.ticket.Context(), changed)()
		switch {
		case h.ticket.Context().Err() != nil || ctx.Err() != nil:
			s.decline(ctx, h, "the gate closed before it started")
			s.head = nil
			return
		case !s.GPUs.Fits(h.task().Resources):
			s.decline(ctx, h, "GPUs that it waited for are gone")
			s.head = nil
			return
		}
	}
	if !s.slotFree() {
		select {
		case <-s.left:
		case <-same.Done():
		}
		return
	}
	if h := s.head; h != nil {
		if uuids, ok := s.GPUs.Reserve(h.task().ID, h.task().Resources, nil); ok {
			s.start(ctx, h, uuids)
			s.head = nil
			return
		}
	}
	next := s.fetch(same)
	switch {
	case next == nil:
	case s.head == nil:
		s.head = next // which the next turn starts, unless it has to wait
		if !s.GPUs.Available(next.task().Resources, nil) {
			s.Log.Info("task waits for GPUs", "task", next.task().ID, "gpus", next.task().Resources.GPUs)
		}
	default:
		s.overtake(ctx, next)
	}
}

// fetch waits for a task that is wanted now.
func (s *Scheduler) fetch(ctx context.Context) *fetched {
	ticket, err := s.Gate.Admit(ctx)
	if err != nil {
		return nil
	}
	open, cancel := context.WithCancel(ticket.Context())
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	delivery, err := s.Queue.Fetch(open, s.wanted)
	if err != nil {
		ticket.Leave(gate.Nothing)
		if open.Err() == nil {
			s.Log.Warn("fetch failed", "error", err)
			pause(ctx, s.backoff.Step())
		}
		return nil
	}
	s.backoff = newBackoff()
	ticket.Fetched()
	return &fetched{ticket: ticket, delivery: delivery}
}

// wanted reports whether to fetch a task of this class: one that could ever run
// here, or, past the head, one that can start at once.
func (s *Scheduler) wanted(class api.Resources) bool {
	if !s.GPUs.Fits(class) {
		s.tellUnfit(class)
		return false
	}
	if s.head == nil {
		return true
	}
	return s.GPUs.Available(class, &s.head.task().Resources) ||
		s.head.overtook < overtakeLimit && s.GPUs.Available(class, nil)
}

// tellUnfit says once of a class that it cannot run here: a person may wonder why
// its tasks stay in the queue.
func (s *Scheduler) tellUnfit(class api.Resources) {
	const most = 1000 // remembered; more are told again
	if _, told := s.unfit[class]; told {
		return
	}
	if len(s.unfit) >= most {
		clear(s.unfit)
	}
	s.unfit[class] = struct{}{}
	s.Log.Info("tasks left to other runners", "gpus", class.GPUs, "gpu_memory", uint64(class.GPUMemory),
		"reason", "this runner has no such GPUs")
}

// overtake starts a task before the head, if possible on GPUs that the head
// cannot use.
func (s *Scheduler) overtake(ctx context.Context, next *fetched) {
	task := next.task()
	uuids, ok := s.GPUs.Reserve(task.ID, task.Resources, &s.head.task().Resources)
	if !ok && s.head.overtook < overtakeLimit {
		if uuids, ok = s.GPUs.Reserve(task.ID, task.Resources, nil); ok {
			s.head.overtook++
		}
	}
	if !ok {
		s.decline(ctx, next, "a GPU for it has just become sick")
		return
	}
	s.start(ctx, next, uuids)
}

func (s *Scheduler) start(ctx context.Context, h *fetched, uuids []string) {
	stop := s.newStopper()
	s.tasks.Go(func() {
		s.attempt(ctx, h.ticket, h.delivery, uuids, stop)
		s.forget(stop)
		select {
		case s.left <- struct{}{}:
		default: // a token is there already; its reader will see this slot too
		}
	})
}

// slotFree reports whether one more task may run. Only Run takes slots.
func (s *Scheduler) slotFree() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.running) < s.Slots()
}

func (s *Scheduler) decline(ctx context.Context, h *fetched, reason string) {
	s.Log.Info("task given back", "task", h.task().ID, "reason", reason)
	s.giveBack(ctx, h.ticket, h.delivery)
}
