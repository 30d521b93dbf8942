package gate_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
)

func admit(t *testing.T, g *gate.Gate) *gate.Ticket {
	t.Helper()
	ticket, err := g.Admit(t.Context())
	if err != nil {
		t.Fatalf("Admit: %v", err)
	}
	return ticket
}

// within ends the process when a test hangs.
func within(t *testing.T) {
	t.Helper()
	name := t.Name()
	hangs := time.AfterFunc(5*time.Minute, func() { panic(name + " hangs") })
	t.Cleanup(func() { hangs.Stop() })
}

func TestANewGateIsClosed(t *testing.T) {
	within(t)
	g := gate.New()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Admit(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Admit = %v, want %v", err, context.Canceled)
	}
	if !g.Snapshot().Idle {
		t.Error("a new gate is not idle")
	}
}

func TestAdmitWaitsForTheGateToOpen(t *testing.T) {
	within(t)
	g := gate.New()
	got := make(chan error, 1)
	go func() {
		_, err := g.Admit(t.Context())
		got <- err
	}()
	g.Set(true)
	if err := <-got; err != nil {
		t.Errorf("Admit = %v", err)
	}
}

// catalogue: row 46
func TestATicketThatWaitsCannotStartAfterClosing(t *testing.T) {
	within(t)
	g := gate.New()
	g.Set(true)
	ticket := admit(t, g)
	ticket.Fetched()

	g.Set(false)

	if ticket.Context().Err() == nil {
		t.Error("the ticket's context lives on after closing")
	}
	if ticket.Start(api.InFlight{ID: "a"}) {
		t.Error("a task started after closing")
	}
	if s := g.Snapshot(); s.Idle || s.Counts.Waiting != 1 || s.Counts.Running != 0 {
		t.Errorf("before the task was given back: %+v, want one waiting", s)
	}
	ticket.Leave(gate.Requeued)
	if s := g.Snapshot(); !s.Idle || s.Counts.Requeued != 1 || s.Counts.Started != 0 {
		t.Errorf("after the task was given back: %+v, want idle and one requeued", s)
	}
}

// Closing and reopening must not revive what was fetched before: the delivery
// may already be on its way back to the queue.
func TestReopeningDoesNotReviveOldTickets(t *testing.T) {
	within(t)
	g := gate.New()
	g.Set(true)
	old := admit(t, g)
	g.Set(false)
	g.Set(true)
	if old.Start(api.InFlight{}) {
		t.Error("a ticket from before the closing started")
	}
	if !admit(t, g).Start(api.InFlight{}) {
		t.Error("a ticket from after the reopening did not start")
	}
}

func TestSnapshotListsWhatRunsOldestFirst(t *testing.T) {
	within(t)
	g := gate.New()
	g.Set(true)
	now := time.Unix(1000, 0)
	first, second := admit(t, g), admit(t, g)
	second.Start(api.InFlight{ID: "second", Started: now.Add(time.Second)})
	first.Start(api.InFlight{ID: "first", Started: now})

	s := g.Snapshot()
	if len(s.InFlight) != 2 || s.InFlight[0].ID != "first" || s.Counts.Running != 2 || s.Counts.Started != 2 {
		t.Errorf("snapshot %+v, want first and second running", s)
	}
	first.Leave(gate.Succeeded)
	second.Leave(gate.Failed)
	if s := g.Snapshot(); !s.Idle || s.Counts.Succeeded != 1 || s.Counts.Failed != 1 || s.Counts.Started != 2 {
		t.Errorf("snapshot %+v, want idle, one succeeded, one failed", s)
	}
}

func TestChangedTellsOfEveryStage(t *testing.T) {
	within(t)
	g := gate.New()
	g.Set(true)
	ticket := admit(t, g)
	for _, stage := range []struct {
		name  string
		enter func()
	}{
		{"admit", func() {}}, // it is so already
		{"fetched", ticket.Fetched},
		{"start", func() { ticket.Start(api.InFlight{}) }},
		{"leave", func() { ticket.Leave(gate.Succeeded) }},
	} {
		stage.enter()
		select {
		case <-g.Changed():
		default:
			t.Errorf("%s was not told", stage.name)
		}
	}
}

// Many tickets race with the closing: none may start once Set(false) returned.
func TestNoStartAfterSetFalseReturned(t *testing.T) {
	within(t)
	for range 200 {
		g := gate.New()
		g.Set(true)
		var tickets []*gate.Ticket
		for range 8 {
			tickets = append(tickets, admit(t, g))
		}
		var wg sync.WaitGroup
		for _, ticket := range tickets {
			wg.Go(func() { ticket.Start(api.InFlight{}) })
		}
		g.Set(false)
		started := g.Snapshot().Counts.Started
		wg.Wait()
		if got := g.Snapshot().Counts.Started; got != started {
			t.Fatalf("%d tasks started, %d of them after closing", got, got-started)
		}
	}
}
