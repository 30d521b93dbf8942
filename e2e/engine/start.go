package engine

import (
	"context"
	"fmt"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

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

// teller puts what a process of a runner tells into the record.
type teller struct {
	record  *history.History
	runner  string
	process int
}

var _ targets.Sink = teller{}

func (t teller) add(e history.Entry) {
	e.Runner, e.Process = t.runner, t.process
	t.record.Add(e)
}

func (t teller) Status(s api.Status)    { t.add(history.Entry{Status: &s}) }
func (t teller) Log(line string)        { t.add(history.Entry{Log: line}) }
func (t teller) Exit(exit targets.Exit) { t.add(history.Entry{Exit: &exit}) }
func (t teller) Trouble(err error) {
	t.record.Add(history.Entry{Trouble: fmt.Sprintf("runner %s: %v", t.runner, err)})
}
