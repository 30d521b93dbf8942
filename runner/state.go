package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/fleet"
)

// State is the state command.
type State struct {
	Fleet `embed:""`
	Shown struct {
		Printing `embed:"" set:"watch=Print anew at each change"`
	} `embed:"" set:"formats=table,wide,json,yaml,name"`

	Phase []string `enum:"unknown,running,draining,suspended,terminated" placeholder:"PHASE" help:"Show only those: ${enum}."`
}

// Help is what --help says besides.
func (State) Help() string {
	return "SEEN is whether a runner has acted on the newest version of both maps. TASKS, and GPUS (in use/healthy/all), are as of its last report: " +
		"runners report each change of state, and in a drain what is left. A map that is no runner's has the phase ?."
}

// runnerViews are what is known of runners.
type runnerViews struct {
	Runners []fleet.Runner `json:"runners"`
}

// Run shows runners, and maps that are no runner's.
func (s *State) Run(ctx context.Context, stdio stdio) error {
	if s.Shown.Watch {
		ctx = whileRead(ctx, stdio.Out)
	}
	return s.poll(ctx, stdio.Err, func(runners []fleet.Runner) (bool, error) {
		runners, unknown := s.pick(runners)
		runners = slices.DeleteFunc(runners, func(r fleet.Runner) bool {
			return len(s.Phase) > 0 && (r.Stray || !slices.Contains(s.Phase, strings.ToLower(string(r.Phase))))
		})
		if len(runners) == 0 && unknown == nil && len(s.Phase) == 0 && !s.Shown.Watch {
			complain(stdio.Err, s.nobody())
		}
		return s.Shown.show(stdio.Out, runnerViews{append([]fleet.Runner{}, runners...)}, unknown)
	})
}

func (v runnerViews) rows(t table) {
	if t.format == "name" {
		for _, r := range v.Runners {
			if !r.Stray { // which no other command takes for a runner
				t.row(r.Name)
			}
		}
		return
	}
	t.row("NAME", "STATE", "SOURCE", "PHASE", "SINCE", "TASKS", "OLDEST", "GPUS", "SEEN", "SHADOWED", "SET-BY", "SET", t.wide("POD", "NODE"), "WHY")
	for _, r := range v.Runners {
		since, tasks, oldest, gpus, seen, shadowed := "", "", "", "", map[bool]string{true: "yes", false: "no"}[r.Seen], ""
		if s := r.Report; s != nil {
			since, tasks, gpus = age(s.Since), fmt.Sprint(s.Tasks.Running+s.Tasks.Waiting), gpuCounts(s.GPUs)
			if len(s.InFlight) > 0 {
				oldest = age(s.InFlight[0].Started)
			}
		}
		if r.Shadowed != nil {
			shadowed = fmt.Sprintf("%s=%s", r.Shadowed.Source, r.Shadowed.Value)
		}
		phase := string(r.Phase)
		if r.Stray {
			phase, seen = "?", ""
		}
		t.row(r.Name, r.Effective, r.Source, phase, since, tasks, oldest, gpus, seen, shadowed, r.SetBy, age(r.SetAt),
			t.wide(r.Pod, r.Node), strings.TrimPrefix(r.Problem+after("; ", r.Reason), "; "))
	}
}

// gpuCounts says how many are in use, are healthy, and are there.
func gpuCounts(gpus []api.GPU) string {
	used, healthy := 0, 0
	for _, g := range gpus {
		if g.Task != "" {
			used++
		}
		if g.Health == api.Healthy {
			healthy++
		}
	}
	return fmt.Sprintf("%d/%d/%d", used, healthy, len(gpus))
}
