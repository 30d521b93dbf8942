package gate_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
)

// A task that has ended has given its GPUs back, though its result is not
// stored yet: it is still in flight, and who looks is told of the change.
func TestATaskThatHasEndedIsInFlightWithoutGPUs(t *testing.T) {
	within(t)
	g := gate.New()
	g.Set(true)
	ticket := admit(t, g)
	ticket.Start(api.InFlight{ID: "a", GPUs: []string{"GPU-0"}})
	<-g.Changed()
	ticket.Freed()
	select {
	case <-g.Changed():
	default:
		t.Error("the change was not told")
	}
	if s := g.Snapshot(); len(s.InFlight) != 1 || len(s.InFlight[0].GPUs) != 0 || s.Idle || s.Counts.Running != 1 {
		t.Errorf("snapshot %+v, want one running task without a GPU", s)
	}
	ticket.Leave(gate.Succeeded)
}

// The order does not come from chance, nor from the order of the starts.
func TestSnapshotIsInOrder(t *testing.T) {
	within(t)
	g := gate.New()
	g.Set(true)
	start := time.Unix(1000, 0)
	for i := range 20 {
		n := i * 7 % 20 // two at a time start together
		admit(t, g).Start(api.InFlight{ID: fmt.Sprintf("t-%02d", n), Started: start.Add(time.Duration(n/2) * time.Second)})
	}
	for i, task := range g.Snapshot().InFlight {
		if want := fmt.Sprintf("t-%02d", i); task.ID != want {
			t.Errorf("at place %d is %s, want %s", i, task.ID, want)
		}
	}
}
