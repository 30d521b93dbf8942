// Package gate is the one place where "no task starts any more" is decided.
//
// A delivery passes through the gate with a ticket: admitted before it is
// fetched, waiting until it has what it needs, running, and gone. The gate
// keeps the count of every stage under one lock, so that a closed gate with no
// ticket left means idle, and nothing can slip in between.
package gate

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Gate admits deliveries while it is open. A new gate is closed.
type Gate struct {
	// Most is how many tickets may ever start and not be refused. The last one closes the
	// gate for good. 0 means any number.
	Most int

	changed chan struct{} // holds one token when a snapshot would differ

	mu      sync.Mutex
	open    bool
	period  context.Context    // lives until the gate closes or opens again
	end     context.CancelFunc // of the period
	tickets map[*Ticket]struct{}
	started int
	refused int               // of them
	ended   [Requeued + 1]int // by Ending
}

// New returns a closed gate.
func New() *Gate {
	g := &Gate{changed: make(chan struct{}, 1), tickets: make(map[*Ticket]struct{})}
	g.period, g.end = context.WithCancel(context.Background())
	return g
}

// Set opens or closes the gate and reports whether that changed anything. When
// Set(false) returns, no ticket can start any more.
func (g *Gate) Set(open bool) (changed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.set(open && (g.Most == 0 || g.started-g.refused < g.Most))
}

// set must be called with the lock held.
func (g *Gate) set(open bool) (changed bool) {
	if open == g.open {
		return false
	}
	g.end()
	g.period, g.end = context.WithCancel(context.Background())
	g.open = open
	return true
}

// Changed receives after anything changed that a Snapshot shows. Several
// changes may come as one; the reader takes a Snapshot.
func (g *Gate) Changed() <-chan struct{} { return g.changed }

// Admit waits until the gate is open and returns a ticket for one fetch, or
// the error of ctx.
func (g *Gate) Admit(ctx context.Context) (*Ticket, error) {
	for {
		g.mu.Lock()
		period := g.period // ends when the gate moves
		if g.open {
			t := &Ticket{gate: g, period: period}
			g.tickets[t] = struct{}{}
			g.tell()
			g.mu.Unlock()
			return t, nil
		}
		g.mu.Unlock()
		select {
		case <-period.Done():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Snapshot is what passed the gate and has not left it, at one moment.
type Snapshot struct {
	Counts   api.TaskCounts
	InFlight []api.InFlight // oldest first
	// Refused is how many of those that started came to nothing, by no fault of the task.
	Refused int
	// Idle means that no ticket is left, in whatever stage.
	Idle bool
}

// Snapshot returns the present state of all tickets.
func (g *Gate) Snapshot() Snapshot {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := Snapshot{Idle: true, Refused: g.refused, Counts: api.TaskCounts{
		Started: g.started, Succeeded: g.ended[Succeeded], Failed: g.ended[Failed],
		MachineFailed: g.ended[MachineFailed], Cancelled: g.ended[Cancelled], Requeued: g.ended[Requeued],
	}}
	for t := range g.tickets {
		// Also a ticket that is still fetching, though it holds nothing: it may
		// hold a delivery in a moment, and is gone soon after the gate closes.
		s.Idle = false
		switch t.stage {
		case waiting:
			s.Counts.Waiting++
		case running:
			s.Counts.Running++
			s.InFlight = append(s.InFlight, t.task)
		}
	}
	slices.SortFunc(s.InFlight, func(a, b api.InFlight) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	return s
}

// change changes the stage of a ticket, and tells of it.
func (g *Gate) change(do func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	do()
	g.tell()
}

func (g *Gate) tell() {
	select {
	case g.changed <- struct{}{}:
	default: // a token is there already; its reader will see this change too
	}
}

type stage int

const (
	fetching stage = iota
	waiting
	running
)

// Ticket is the passage of one delivery.
type Ticket struct {
	gate   *Gate
	period context.Context

	// guarded by gate.mu
	stage stage
	task  api.InFlight
}

// Context ends when the gate closes: a ticket that has not started by then
// gives its delivery back.
func (t *Ticket) Context() context.Context { return t.period }

// Fetched notes that the ticket holds a delivery now.
func (t *Ticket) Fetched() { t.gate.change(func() { t.stage = waiting }) }

// Start is the last look at the gate, right before the task's process is
// started. False means that the gate was closed, be it reopened since or not,
// and that the task must not start.
func (t *Ticket) Start(task api.InFlight) (started bool) {
	t.gate.change(func() {
		if started = t.period.Err() == nil; !started {
			return
		}
		t.stage, t.task = running, task
		t.gate.started++
		if t.gate.started-t.gate.refused == t.gate.Most {
			t.gate.set(false)
		}
	})
	return started
}

// Refused notes that the machine refused what the attempt needs, so that it does not count
// among the most that may start.
func (t *Ticket) Refused() {
	t.gate.change(func() {
		if t.stage == running {
			t.gate.refused++
		}
	})
}

// Freed notes that the task has ended and its GPUs may be another's, though its
// delivery is not settled yet. Without any, that is no news.
func (t *Ticket) Freed() {
	t.gate.mu.Lock()
	defer t.gate.mu.Unlock()
	if t.task.GPUs != nil {
		t.task.GPUs = nil
		t.gate.tell()
	}
}

// Ending is what became of a delivery.
type Ending int

// The endings. Nothing is for a ticket that never held a delivery.
const (
	Nothing Ending = iota
	Succeeded
	Failed
	MachineFailed
	Cancelled
	Requeued
)

// Leave returns the ticket after its delivery was settled with the queue.
func (t *Ticket) Leave(ending Ending) {
	t.gate.change(func() {
		delete(t.gate.tickets, t)
		t.gate.ended[ending]++
	})
}
