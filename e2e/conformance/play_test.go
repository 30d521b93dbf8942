package conformance_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/studioml/studio-go-runner/e2e/conformance"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

// barren is a target on which no place can be made.
type barren struct{ targets.Target }

var errBarren = errors.New("no room")

func (barren) Isolate(_ context.Context, isolation targets.Isolation) (targets.Env, error) {
	if slices.Contains(isolation.Needs, scenario.NeedAPIServer) {
		return nil, targets.Cannot("needs apiserver: there is none")
	}
	return nil, errBarren
}

// What could not be played says nothing about a runner: it is an error, and not told
// as a scenario that went well.
func TestAPlaceThatCannotBeMade(t *testing.T) {
	suite, err := conformance.Load(".")
	if err != nil {
		t.Fatal(err)
	}
	player := conformance.Player{Target: barren{}, Kind: "embedded", Procs: 2, Artifacts: t.TempDir(), Ended: func(r conformance.Result) {
		if r.Skipped != "needs apiserver: there is none" {
			t.Errorf("%s is told to have ended", r.Scenario.Name)
		}
	}}
	if _, err := player.Play(t.Context(), suite, conformance.Core); !errors.Is(err, errBarren) {
		t.Errorf("the error is %v, want %v", err, errBarren)
	}
}
