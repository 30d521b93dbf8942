package main

import (
	"strings"
	"testing"
)

// A short form and a choice of kinds are other plans of the same seed.
func TestTheCommandPlaysTheSamePlan(t *testing.T) {
	for want, o := range map[string]options{
		"make chaos QUEUE=spool SEED=7":                                     {Seed: 7, Queue: inDirectory},
		"make chaos SHORT=1 QUEUE=postgres SEED=7":                          {Seed: 7, Queue: inServer, Short: true},
		"make chaos SHORT=1 QUEUE=spool SEED=7 KINDS=disk-full,disk-inodes": {Seed: 7, Queue: inDirectory, Short: true, Kinds: []string{"disk-full", "disk-inodes"}},
	} {
		if got := o.again(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestTheReportSaysWhatThereWasNoTimeFor(t *testing.T) {
	plan := Plan{Tasks: make([]Task, 3), Strikes: []Strike{{Kind: "kill"}, {Kind: "term"}, {Kind: "kill"}}}
	const late = "the time was over"
	for want, r := range map[string]*Record{
		late + " before 2 of 3 strikes and 1 of 3 tasks; never struck: term\n": {
			Tasks: plan.Tasks[:2], Struck: []Struck{{Strike: plan.Strikes[0]}},
		},
		late + " before 1 of 3 strikes and 0 of 3 tasks\n": {
			Tasks: plan.Tasks, Struck: []Struck{{Strike: plan.Strikes[0]}, {Strike: plan.Strikes[1]}},
		},
		"": {
			Tasks: plan.Tasks, Struck: []Struck{{Strike: plan.Strikes[0]}, {Strike: plan.Strikes[1]}, {Strike: plan.Strikes[2]}},
		},
	} {
		var out strings.Builder
		report(&out, r, plan)
		if got := out.String(); !strings.Contains(got, want) || strings.Contains(got, late) != (want != "") {
			t.Errorf("%s\nwant %q", got, want)
		}
	}
}
