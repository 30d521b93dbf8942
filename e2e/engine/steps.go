package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// submit puts a group of tasks into the queue.
func (p *play) submit(s scenario.Submit) error {
	command, args, err := p.env.TaskCommand(targets.TaskSpec{Group: s.Group, Hold: s.Hold, Fail: s.Fail, IgnoreTerm: s.IgnoreTerm})
	if err != nil {
		return fmt.Errorf("submit %s: %w", s.Group, err)
	}
	resources := api.Resources{GPUs: s.GPUs}
	if s.GPUMemory != "" {
		if err := resources.GPUMemory.UnmarshalJSON(fmt.Appendf(nil, "%q", s.GPUMemory)); err != nil {
			return fmt.Errorf("submit %s: %w", s.Group, err)
		}
	}
	var timeout time.Duration
	if s.Timeout != "" {
		if timeout, err = time.ParseDuration(s.Timeout); err != nil {
			return fmt.Errorf("submit %s: %w", s.Group, err)
		}
	}
	var tasks []api.Task
	for n := range s.Count {
		tasks = append(tasks, api.Task{
			ID: fmt.Sprintf("%s-%d", s.Group, n+1), Command: command, Args: args, Resources: resources,
			MaxAttempts: s.MaxAttempts, Timeout: api.Duration(timeout),
		})
	}
	if err := p.bounded(submitBudget, func(ctx context.Context) error { return p.env.Submit(ctx, tasks) }); err != nil {
		return fmt.Errorf("submit %s: %w", s.Group, err)
	}
	for _, t := range tasks {
		p.submitted = append(p.submitted, t.ID)
	}
	return nil
}

// start starts a runner, the first time or again.
func (p *play) start(name string) error {
	process := 1
	if before := p.runners[name]; before != nil {
		process = before.process + 1
		// The record of the process before must be complete first.
		err := p.bounded(runnerBudget, func(ctx context.Context) error {
			return p.record.Wait(ctx, func(f *history.Facts) bool { return f.Runner(name).Exit != nil })
		})
		if err != nil {
			return fmt.Errorf("its last process has not ended: %w", err)
		}
	}
	return p.bounded(runnerBudget, func(ctx context.Context) error {
		r, err := p.env.StartRunner(ctx, targets.RunnerSpec{Name: name, Runner: p.scenario.Runners[name]})
		if err != nil {
			return err
		}
		p.runners[name] = &started{r, process}
		p.record.Add(history.Entry{Runner: name, Process: process, Start: true})
		p.follow(name, process, r)
		return nil
	})
}

var signals = map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}

func (p *play) signal(all map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		r := p.runners[name]
		if r == nil {
			return fmt.Errorf("runner %s was not started", name)
		}
		err := p.bounded(runnerBudget, func(ctx context.Context) error { return r.Signal(ctx, signals[all[name]]) })
		if err != nil {
			return fmt.Errorf("runner %s: %w", name, err)
		}
	}
	return nil
}

// errCannot means that the Env lacks what it promised when it was made.
var errCannot = errors.New("the target said that it can do this, but its Env cannot")

func (p *play) apiServer(what string) error {
	control, ok := p.env.(targets.APIServerControl)
	if !ok {
		return errCannot
	}
	if what == "stop" {
		return p.bounded(outageBudget, control.StopAPIServer)
	}
	return p.bounded(outageBudget, control.StartAPIServer)
}

func (p *play) network(what string) error {
	control, ok := p.env.(targets.NetworkControl)
	if !ok {
		return errCannot
	}
	switch what {
	case "cut":
		return control.CutNetwork()
	case "restore":
		return control.RestoreNetwork()
	}
	limit, err := time.ParseDuration(what)
	if err != nil {
		return err
	}
	return control.LimitConnections(limit)
}

func (p *play) fakeGPU(lines map[string]string) error {
	control, ok := p.env.(targets.FakeGPUControl)
	if !ok {
		return errCannot
	}
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		spec := targets.RunnerSpec{Name: name, Runner: p.scenario.Runners[name]}
		err := p.bounded(runnerBudget, func(ctx context.Context) error {
			return control.ChangeGPUs(ctx, spec, strings.Fields(lines[name]))
		})
		if err != nil {
			return fmt.Errorf("runner %s: %w", name, err)
		}
	}
	return nil
}

func (p *play) queue(what string) error {
	control, ok := p.env.(targets.QueueControl)
	if !ok {
		return errCannot
	}
	if what == "hide" {
		return control.HideQueue()
	}
	return control.RestoreQueue()
}
