package engine

import (
	"context"
	"fmt"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

func init() {
	add(scenario.Verb{Name: "start", Doc: "Starts delayed runners, and those that ended, under their old name."}, start.do)
}

type start []scenario.RunnerName

// Starts are the runners that are started, for the format's check.
func (s start) Starts() []scenario.RunnerName { return s }

func (s start) do(p *play) error { return each(s, p.start) }

// start starts a runner, the first time or again.
func (p *play) start(subject scenario.RunnerName) error {
	name, process := string(subject), 1
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
		tells := teller{p.record, name, process}
		tells.add(history.Entry{Start: true})
		r, err := p.env.StartRunner(ctx, targets.RunnerSpec{Name: name, Runner: p.scenario.Runners[name]}, tells)
		if err != nil {
			return err
		}
		p.runners[name] = &started{r, process}
		return nil
	})
}
