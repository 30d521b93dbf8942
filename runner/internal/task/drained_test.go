package task_test

import (
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Exit status 75 means "run me again", but only if a drain was on; whoever ended the
// task has said why.
func TestInterruptedInADrain(t *testing.T) {
	for _, test := range []struct {
		name    string
		of      *api.Task
		drained func() bool
		outcome api.Outcome
		reason  string
	}{
		{"in a drain", shell("exit 75"), func() bool { return true }, api.Interrupted, "exit status 75 in a drain"},
		{"without a drain", shell("exit 75"), func() bool { return false }, api.Failed, "exit status 75"},
		{"nobody can tell", shell("exit 75"), nil, api.Failed, "exit status 75"},
		{"another status", shell("exit 74"), func() bool { return true }, api.Failed, "exit status 74"},
		{"success", shell("exit 0"), func() bool { return true }, api.Succeeded, ""},
		{"its timeout was over", nil, func() bool { return true }, api.Interrupted, "exit status 75 in a drain"},
		{"its timeout was over, no drain", nil, func() bool { return false }, api.TimedOut, "s ended it (exit status 75)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got api.Result
			if test.of == nil {
				got = timedOut(t, "trap 'exit 75' TERM", time.Hour, test.drained)
			} else {
				spec := newSpec(t, test.of)
				spec.Drained = test.drained
				got = run(t, spec)
			}
			if got.Outcome != test.outcome || !strings.Contains(got.Reason, test.reason) {
				t.Errorf("%s (%s), want %s (%s)", got.Outcome, got.Reason, test.outcome, test.reason)
			}
		})
	}
}
