package main

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/runner/internal/fleet"
)

// State is the state command.
type State struct {
	Fleet    `embed:""`
	Printing `embed:"" set:"watch=Print anew at each change" set:"formats=table,wide,json,yaml,name"`

	Names []string `arg:"" optional:"" name:"name" help:"Runners to show, by the names of their node maps, or patterns as 'worker-*'; all without one."`
	Phase []string `enum:"unknown,running,draining,suspended,terminated" placeholder:"PHASE" help:"Show only those: ${enum}."`
}

// runnerViews are what is known of runners.
type runnerViews struct {
	Runners []fleet.Runner `json:"runners"`
}

// Run shows runners, and maps that are no runner's.
func (s *State) Run(ctx context.Context, stdio stdio) error {
	if err := s.connect(); err != nil {
		return err
	}
	if s.Watch {
		ctx = whileRead(ctx, stdio.Out)
		return s.show(stdio.Out, s.wanted(s.looks(ctx, stdio.Err)))
	}
	runners, err := s.read(ctx)
	return s.show(stdio.Out, s.wanted(func(yield func([]fleet.Runner, error) bool) { yield(runners, err) }))
}

// wanted leaves out what nobody asked for.
func (s *State) wanted(looks iter.Seq2[[]fleet.Runner, error]) iter.Seq2[view, error] {
	return func(yield func(view, error) bool) {
		for runners, err := range looks {
			if err != nil {
				yield(nil, err)
				return
			}
			runners, err = s.named(runners, s.Names)
			runners = slices.DeleteFunc(slices.Clone(runners), func(r fleet.Runner) bool {
				return len(s.Phase) > 0 && (r.Stray || !slices.Contains(s.Phase, strings.ToLower(string(r.Phase))))
			})
			if len(runners) == 0 && err != nil && !s.Watch {
				yield(nil, err)
				return
			}
			if !yield(runnerViews{append([]fleet.Runner{}, runners...)}, err) {
				return
			}
		}
	}
}

func (v runnerViews) names() (names []string) {
	for _, r := range v.Runners {
		names = append(names, r.Name)
	}
	return names
}

func (v runnerViews) rows(t table) {
	t.row("NAME", "STATE", "SOURCE", "PHASE", "SINCE", "TASKS", "OLDEST", "GPUS", "SEEN", "SHADOWED", "SET-BY", t.wide("SET", "POD", "NODE"), "WHY")
	for _, r := range v.Runners {
		phase, tasks, gpus, seen, shadowed := string(r.Phase), fmt.Sprint(r.Tasks), fmt.Sprintf("%d/%d/%d", r.GPUs.Used, r.GPUs.Healthy, r.GPUs.All), "no", ""
		if r.Stray {
			phase, tasks, gpus, seen = "?", "", "", ""
		}
		if r.Seen {
			seen = "yes"
		}
		if r.Shadowed != nil {
			shadowed = fmt.Sprintf("%s=%s", r.Shadowed.Source, r.Shadowed.Value)
		}
		why := strings.TrimPrefix(r.Problem+after("; ", r.Reason), "; ")
		t.row(r.Name, cmp.Or(r.Effective, "-"), cmp.Or(r.Source, "-"), phase, age(r.Since), tasks, age(r.Oldest), gpus, seen, shadowed, r.SetBy,
			t.wide(age(r.SetAt), r.Pod, r.Node), why)
	}
}
