package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/fleet"
)

// Wait is the wait command.
type Wait struct {
	Selection `embed:""`
	Waiting   `embed:""`

	For api.Phase `required:"" enum:"Running,Suspended,Terminated" placeholder:"PHASE" help:"What is to be so: ${enum}."`
}

// Run waits until it is so.
func (w *Wait) Run(ctx context.Context, stdio stdio) error {
	if err := w.connect(); err != nil {
		return err
	}
	runners, err := w.read(ctx)
	if err != nil {
		return err
	}
	meant, err := w.pick(runners)
	if err != nil {
		return err
	}
	return w.await(ctx, stdio, &w.Selection, meant, w.For)
}

// Waiting is how long to wait. Commands embed it.
type Waiting struct {
	Timeout time.Duration `placeholder:"DURATION" help:"How long to wait; then the exit code is 3. Default: for ever. It is 4 at once where it cannot come true."`
}

// Selection says which runners are meant. Commands embed it.
type Selection struct {
	Fleet `embed:""`

	Names []string `arg:"" optional:"" name:"name" help:"Runners, by the names of their node maps, or patterns as 'worker-*'."`
	All   bool     `help:"All runners of the namespace, by the global map."`
	Node  string   `placeholder:"NODE" help:"The runners on a node of Kubernetes."`
}

// Validate is called by kong.
func (s *Selection) Validate() error {
	ways := 0
	for _, used := range []bool{len(s.Names) > 0, s.All, s.Node != ""} {
		if used {
			ways++
		}
	}
	if ways != 1 {
		return errors.New("name runners, or a --node for those on it, or --all: one of these")
	}
	return nil
}

// pick returns the runners that are meant. One that has ended is meant only by its name.
func (s *Selection) pick(runners []fleet.Runner) ([]fleet.Runner, error) {
	runners = slices.DeleteFunc(slices.Clone(runners), func(r fleet.Runner) bool {
		return r.Stray || s.Node != "" && r.Node != s.Node || r.Ended && !slices.Contains(s.Names, r.Name)
	})
	if s.Node != "" && len(runners) == 0 {
		return nil, fmt.Errorf("there is no runner on a node %s in namespace %s; kubectl get nodes lists nodes", s.Node, s.Namespace)
	}
	return s.named(runners, s.Names)
}

// ending is the end of a command with a code of its own.
type ending struct {
	error
	code exitCode
}

func (e ending) Unwrap() error { return e.code }

// await tells of the runners until all are in a phase. Besides those who were meant at
// the begin it waits for those who are by now.
func (w *Waiting) await(ctx context.Context, stdio stdio, of *Selection, meant []fleet.Runner, phase api.Phase) error {
	if w.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, w.Timeout)
		defer cancel()
	}
	last := map[string]string{}
	for _, r := range meant {
		last[r.Name] = ""
	}
	var late []string
	for runners, err := range of.looks(ctx, stdio.Err) {
		if err != nil && ctx.Err() == nil {
			return err
		} else if err != nil {
			return ending{fmt.Errorf("timed out after %s: %s", w.Timeout, strings.Join(late, "; ")), api.ExitTimedOut}
		}
		picked, _ := of.pick(runners) // one that is named may be away for a moment
		for _, r := range picked {
			last[r.Name] = last[r.Name]
		}
		var hopeless []string
		late = nil
		for _, name := range slices.Sorted(maps.Keys(last)) {
			missing, never := missing(runners, name, phase)
			if missing != "" {
				late = append(late, name+" "+missing)
			}
			if never {
				hopeless = append(hopeless, name+": "+missing)
			}
			if now := cmp.Or(missing, "is "+string(phase)); now != last[name] {
				fmt.Fprintln(stdio.Out, name, now)
				last[name] = now
			}
		}
		if len(hopeless) > 0 {
			return ending{fmt.Errorf("this cannot come true: %s", strings.Join(hopeless, "; ")), api.ExitNever}
		} else if len(late) == 0 {
			return nil
		}
	}
	return nil
}

// missing says what keeps those of a name from being in a phase.
func missing(runners []fleet.Runner, name string, phase api.Phase) (missing string, never bool) {
	there := false
	for _, r := range runners {
		if r.Name != name || r.Stray {
			continue
		}
		there = true
		if missing, never = r.Await(phase); missing != "" {
			return missing, never
		}
	}
	if !there && phase != api.PhaseTerminated {
		return "has no pod now", false
	}
	return "", false
}
