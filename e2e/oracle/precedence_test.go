package oracle_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/oracle"
)

// The five ways for a map to say nothing, at the start of a process.
var silent = []string{"absent", "keyless", "", " \n", "bogus"}

func TestPredict(t *testing.T) {
	const (
		run, term, susp = "Running", "DrainAndTerminate", "DrainAndSuspend"
		quiet           = "absent"
	)
	tests := []struct {
		global, node string
		want         oracle.Verdict
	}{
		{quiet, quiet, oracle.Verdict{run, "default", "none", "Running"}},
		{run, quiet, oracle.Verdict{run, "global", "none", "Running"}},
		{term, quiet, oracle.Verdict{term, "global", "none", "Terminated"}},
		{susp, quiet, oracle.Verdict{susp, "global", "none", "Suspended"}},

		{quiet, run, oracle.Verdict{run, "node", "none", "Running"}},
		{run, run, oracle.Verdict{run, "node", "none", "Running"}},
		{term, run, oracle.Verdict{run, "node", term, "Running"}},
		{susp, run, oracle.Verdict{run, "node", susp, "Running"}},

		{quiet, term, oracle.Verdict{term, "node", "none", "Terminated"}},
		{run, term, oracle.Verdict{term, "node", run, "Terminated"}},
		{term, term, oracle.Verdict{term, "node", "none", "Terminated"}},
		{susp, term, oracle.Verdict{term, "node", susp, "Terminated"}},

		{quiet, susp, oracle.Verdict{susp, "node", "none", "Suspended"}},
		{run, susp, oracle.Verdict{susp, "node", run, "Suspended"}},
		{term, susp, oracle.Verdict{susp, "node", term, "Suspended"}},
		{susp, susp, oracle.Verdict{susp, "node", "none", "Suspended"}},
	}
	for _, tt := range tests {
		// All ways to say nothing mean the same.
		globals, nodes := []string{tt.global}, []string{tt.node}
		if tt.global == quiet {
			globals = silent
		}
		if tt.node == quiet {
			nodes = silent
		}
		for _, global := range globals {
			for _, node := range nodes {
				if diff := cmp.Diff(tt.want, oracle.Predict(global, node)); diff != "" {
					t.Errorf("Predict(%q, %q), want - got +\n%s", global, node, diff)
				}
			}
		}
	}
}

func TestWhiteSpaceAndCase(t *testing.T) {
	tests := []struct{ text, want string }{
		{"DrainAndSuspend\n", "DrainAndSuspend"},
		{"\t DrainAndSuspend \r\n", "DrainAndSuspend"},
		{"drainandsuspend", "Running"},
		{"DRAINANDSUSPEND", "Running"},
		{"Drain And Suspend", "Running"},
		{"Suspended", "Running"},
		{"Absent", "Running"},
	}
	for _, tt := range tests {
		if got := oracle.Predict(tt.text, "absent").Effective; got != tt.want {
			t.Errorf("Predict(%q, absent): effective %s, want %s", tt.text, got, tt.want)
		}
	}
}
