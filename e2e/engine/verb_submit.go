package engine

import (
	"context"
	"fmt"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

func init() { add(scenario.Verb{Name: "submit", Doc: "Puts tasks into the queue."}, submit) }

// submit puts a group of tasks into the queue.
func submit(s scenario.Submit, p *play) error {
	command, args, err := p.env.TaskCommand(targets.TaskSpec{Group: string(s.Group), Hold: s.Hold, Fail: s.Fail, IgnoreTerm: s.IgnoreTerm})
	if err != nil {
		return err
	}
	resources := api.Resources{GPUs: s.GPUs}
	if s.GPUMemory != "" {
		if err := resources.GPUMemory.UnmarshalJSON(fmt.Appendf(nil, "%q", s.GPUMemory)); err != nil {
			return err
		}
	}
	var tasks []api.Task
	for n := range s.Count {
		tasks = append(tasks, api.Task{
			ID: fmt.Sprintf("%s-%d", s.Group, n+1), Command: command, Args: args, Resources: resources,
			MaxAttempts: s.MaxAttempts, Timeout: api.Duration(s.Timeout),
		})
	}
	if err := p.bounded(submitBudget, func(ctx context.Context) error { return p.env.Submit(ctx, tasks) }); err != nil {
		return err
	}
	for _, t := range tasks {
		p.submitted = append(p.submitted, t.ID)
	}
	return nil
}
