package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

func init() {
	add(scenario.Term{Name: "release", Doc: "Lets the held tasks of groups end."}, release.do)
	add(scenario.Term{Name: "submit", Doc: "Puts tasks into the queue."}, submit)
}

// submit puts a group of tasks into the queue, once or again and again.
func submit(s scenario.Submit, ctx context.Context, p *play) error {
	err := p.submitFrom(ctx, 1, s)
	if err == nil && s.Again > 0 {
		p.streams.Go(func() { p.told("stream of "+string(s.Group), p.stream(s)) })
	}
	return err
}

// submitFrom puts the tasks of a group into the queue, numbered from first.
func (p *play) submitFrom(ctx context.Context, first int, s scenario.Submit) error {
	command, args, err := p.env.TaskCommand(s)
	if err != nil {
		return err
	}
	var expires api.Time
	if s.Expires > 0 {
		expires.Time = time.Now().Add(time.Duration(s.Expires)).UTC()
	}
	var tasks []api.Task
	for n := range s.Count {
		tasks = append(tasks, api.Task{
			ID: fmt.Sprintf("%s-%d", s.Group, first+n), Command: command, Args: args,
			Resources:   api.Resources{GPUs: s.GPUs, GPUMemory: s.GPUMemory},
			MaxAttempts: s.MaxAttempts, Timeout: api.Duration(s.Timeout), Priority: s.Priority, Expires: expires,
		})
	}
	if err := p.env.Submit(ctx, tasks); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range tasks {
		p.submitted = append(p.submitted, t.ID)
	}
	return nil
}

// stream submits a group again and again, as long as the steps take.
func (p *play) stream(s scenario.Submit) error {
	tick := time.Tick(time.Duration(s.Again))
	for first := 1 + s.Count; ; {
		select {
		case <-tick:
		case <-p.done:
			return nil
		case <-p.ctx.Done():
			return nil
		}
		if s.Waiting > 0 {
			// Not for the record, which would have a copy of the queue for each tick.
			contents, err := p.env.Queue(p.ctx)
			if err != nil {
				return err
			}
			if len(contents.In(api.TaskWaiting)) > s.Waiting {
				continue
			}
		}
		if err := p.submitFrom(p.ctx, first, s); err != nil {
			return err
		}
		first += s.Count
	}
}

type release []scenario.Group

func (r release) Check(c *scenario.Checker, at string) {
	for i, group := range r {
		at := fmt.Sprintf("%s[%d]", at, i)
		switch tasks := c.Groups[group]; {
		case tasks == nil:
		case !tasks.Hold:
			c.Bad(at, "group %q is not held", string(group))
		case !c.Once("release " + string(group)):
			c.Bad(at, "group %q was released before", string(group))
		}
	}
}

func (r release) do(ctx context.Context, p *play) error {
	return each(r, func(group scenario.Group) error { return p.env.Release(ctx, string(group)) })
}
