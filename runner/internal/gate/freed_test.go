package gate_test

import (
	"testing"

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
