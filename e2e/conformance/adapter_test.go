package conformance_test

import (
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/conformance"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

// An adapter gets what README.md says, and of a target's flags no others.
func TestAdapter(t *testing.T) {
	adapter := conformance.Adapter{"/bin/sh", "-c", "text", "adapter"}
	spec := targets.RunnerSpec{Name: "a", Runner: scenario.Runner{Slots: 2, Flags: map[scenario.Flag]string{"settle": "4s"}}}
	command, env := adapter.Run(spec, map[string]string{"spool": "postgres://there", "termination-log": "/dev/termination-log", "listen": ":1"})
	if want := append(slices.Clone(adapter), "run"); !slices.Equal(command, want) {
		t.Errorf("the command line is %q, want %q", command, want)
	}
	want := map[string]string{
		"CONFORMANCE_NAME": "a", "CONFORMANCE_SLOTS": "2", "CONFORMANCE_SETTLE": "4",
		"CONFORMANCE_QUEUE": "postgres://there", "CONFORMANCE_TERMINATION_LOG": "/dev/termination-log",
	}
	if diff := gocmp.Diff(want, env); diff != "" {
		t.Errorf("want - got +\n%s", diff)
	}
	submit := []string{"env", "CONFORMANCE_QUEUE=postgres://there", "CONFORMANCE_NAMESPACE=here", "/bin/sh", "-c", "text", "adapter", "submit"}
	if got := adapter.Submit("postgres://there", "here"); !slices.Equal(got, submit) {
		t.Errorf("tasks are submitted by %q, want %q", got, submit)
	}
}
