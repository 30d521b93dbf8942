package conformance

import (
	"context"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

// starts keeps what a runner is started with.
type starts struct {
	targets.Env
	spec targets.RunnerSpec
}

func (s *starts) StartRunner(_ context.Context, spec targets.RunnerSpec, _ targets.Sink) (targets.Runner, error) {
	s.spec = spec
	return nil, nil
}

// Where scenarios wait longer, a runner's own times are longer, too: one second within
// a settle window of three is so at any factor.
func TestTheTimesOfARunner(t *testing.T) {
	t.Setenv("E2E_TIME_FACTOR", "3")
	place, given := &starts{}, map[scenario.Flag]string{"drain-deadline": "2s"}
	spec := targets.RunnerSpec{Runner: scenario.Runner{Flags: given}}
	if _, err := newEnv(place).StartRunner(t.Context(), spec, nil); err != nil {
		t.Fatal(err)
	}
	want := map[scenario.Flag]string{"settle": "9s", "drain-deadline": "6s"}
	if diff := gocmp.Diff(want, place.spec.Flags); diff != "" {
		t.Errorf("want - got +\n%s", diff)
	}
	if given["drain-deadline"] != "2s" {
		t.Error("the scenario itself was changed")
	}
}
