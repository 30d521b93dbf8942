package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/fleet"
)

// Wait is the wait command.
type Wait struct {
	Selection `embed:""`

	For goal `required:"" enum:"Running,Suspended,Terminated" placeholder:"PHASE" help:"What is to be so: ${enum}."`
}

// Selection says which runners are meant, and how long to wait for them. Commands embed it.
type Selection struct {
	Fleet `embed:""`

	All     bool  `help:"All runners of the namespace."`
	Timeout *span `placeholder:"DURATION" help:"How long to wait, as 30m; then the exit code is 3. Default: for ever. It is 4, at once, where it cannot come true."`
}

// Validate is called by kong.
func (s *Selection) Validate() error {
	if s.Timeout != nil && *s.Timeout == 0 {
		return errors.New("--timeout is 0; must be above 0, as 30m, and to wait for ever be left out")
	}
	if len(slices.DeleteFunc([]bool{len(s.Names) > 0, s.All, s.Node != ""}, func(used bool) bool { return !used })) != 1 {
		return errors.New("name runners, or a --node for those on it, or --all: one of these")
	}
	return nil
}

// meant are the runners of the selection. One that has ended is meant only by its name.
func (s *Selection) meant(runners []fleet.Runner) ([]fleet.Runner, error) {
	return s.pick(slices.DeleteFunc(slices.Clone(runners), func(r fleet.Runner) bool {
		return r.Stray || r.Ended && !slices.Contains(s.Names, r.Name)
	}))
}

// Run waits until it is so.
func (w *Wait) Run(ctx context.Context, stdio stdio) error {
	return w.await(ctx, stdio, api.Phase(w.For))
}

// goal is a phase, in whatever case it was typed.
type goal api.Phase

// UnmarshalText implements encoding.TextUnmarshaler, which kong knows.
func (g *goal) UnmarshalText(text []byte) error {
	*g = goal(text)
	for phase := range fleet.Asked {
		if strings.EqualFold(string(text), string(phase)) {
			*g = goal(phase)
		}
	}
	return nil
}

// ending is the end of a command with a code of its own.
type ending struct {
	error
	code exitCode
}

func (e ending) Unwrap() error { return e.code }

// errTimedOut ends a wait that takes longer than --timeout.
var errTimedOut = errors.New("timed out")

// await tells of the runners until all that are meant are in a phase. What goes away
// runs no task any more, and what comes begins with what the maps say.
func (s *Selection) await(ctx context.Context, stdio stdio, phase api.Phase) error {
	if s.Timeout != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(*s.Timeout), errTimedOut)
		defer cancel()
	}
	late := []string{"nothing was heard from the API server"}
	var said map[string]string // of whom what
	err := s.poll(ctx, stdio.Err, func(runners []fleet.Runner) (bool, error) {
		meant, absent := s.meant(runners)
		if said == nil { // later a runner may be away for a moment
			if absent == nil && len(meant) == 0 {
				absent = s.nobody()
			}
			if absent != nil {
				return true, absent
			}
			said = map[string]string{}
		}
		late = nil
		if absent != nil && phase != api.PhaseTerminated {
			late = append(late, absent.Error())
		} else if len(meant) == 0 && phase == api.PhaseRunning { // while nobody runs tasks, all are drained
			late = append(late, s.nobody().Error())
		}
		for _, r := range meant {
			missing, never := r.Missing(phase)
			name, missing := line(r.Name), line(missing)
			if never {
				return true, ending{fmt.Errorf("this cannot come true: %s %s", name, missing), api.ExitNever}
			} else if missing != "" {
				late = append(late, name+" "+missing)
			}
			if now := name + " " + cmp.Or(missing, "is "+string(phase)); now != said[r.Pod] {
				fmt.Fprintln(stdio.Out, now)
				said[r.Pod] = now
			}
		}
		return len(late) == 0, nil
	})
	if errors.Is(err, errTimedOut) {
		err = ending{fmt.Errorf("%w after %s: %s", err, time.Duration(*s.Timeout), strings.Join(late, "; ")), api.ExitTimedOut}
	}
	return err
}
