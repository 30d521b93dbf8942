package api_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/runner/api"
)

// FuzzParseState: a value is one of the states, nothing, or an error that can be
// printed on a line.
func FuzzParseState(f *testing.F) {
	for _, seed := range []string{"Running", " DrainAndSuspend\r\n", "", "running", "Drain and suspend", "\ufeffRunning", "\x00", "\xff\xfe",
		`"Running"`, "Running # later", strings.Repeat("A", 1000), "DrainAndTerminate,Running"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		state, err := api.ParseState(value)
		switch {
		case err == nil && state != api.Unset && (!slices.Contains(api.States, state) || strings.TrimSpace(value) != string(state)):
			t.Errorf("%q is %q", value, state)
		case err == nil && state == api.Unset && strings.TrimSpace(value) != "":
			t.Errorf("%q is nothing", value)
		case err != nil && (state != api.Unset || len(err.Error()) > 300 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f })):
			t.Errorf("%q: %q, %v", value, state, err)
		}
	})
}
