package gate_test

import (
	"testing"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
)

// The ticket that is the last one closes the gate before anybody else can start, and
// nothing opens it again.
func TestMost(t *testing.T) {
	within(t)
	g := gate.New()
	g.Most = 2
	g.Set(true)
	tickets := []*gate.Ticket{admit(t, g), admit(t, g), admit(t, g)}
	for i, ticket := range tickets {
		if got, want := ticket.Start(api.InFlight{}), i < 2; got != want {
			t.Errorf("ticket %d starts: %v, want %v", i, got, want)
		}
	}
	if g.Set(true) {
		t.Error("it opens again")
	}
	if tickets[2].Context().Err() == nil {
		t.Error("who waits is not told")
	}
	for _, ticket := range tickets {
		ticket.Leave(gate.Requeued)
	}
	if !g.Snapshot().Idle {
		t.Error("not idle")
	}
}

// One that came to nothing was none of them.
func TestMostIsWithoutTheRefused(t *testing.T) {
	within(t)
	g := gate.New()
	g.Most = 1
	g.Set(true)
	waits := admit(t, g)
	waits.Refused() // before its start
	for range 2 {
		ticket := admit(t, g)
		if !ticket.Start(api.InFlight{}) || g.Set(true) {
			t.Fatal("one may start, and closes the gate")
		}
		ticket.Refused()
		ticket.Leave(gate.Requeued)
		if !g.Set(true) {
			t.Fatal("the gate stays closed after a refusal")
		}
	}
	if s := g.Snapshot(); s.Counts.Started != 2 || s.Refused != 2 {
		t.Errorf("%+v, want two that started, and were refused", s)
	}
	waits.Leave(gate.Requeued)
}
