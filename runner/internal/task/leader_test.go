package task_test

import (
	"fmt"
	"testing"

	"github.com/studioml/studio-go-runner/runner/api"
)

// What is left of the group goes with its leader, also without the environment
// by which it could be found.
func TestTheGroupEndsWithItsLeader(t *testing.T) {
	pids := newPidPipe(t)
	spec := newSpec(t, shell(fmt.Sprintf(`env -i sleep 1000 >/dev/null 2>&1 & echo $! >%s`, pids)))
	pid, _, _, result := started(t, spec, pids)
	if got := result(); got.Outcome != api.Succeeded {
		t.Errorf("%s (%s)", got.Outcome, got.Reason)
	}
	waitGone(t, pid)
}
