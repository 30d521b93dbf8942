package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/rules"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

// invariants are what must hold at the end of every scenario, whatever it is
// about.
func (p *play) invariants() error {
	return errors.Join(p.nothingLost(), allowed(p.scenario).Broken(p.record.Entries()))
}

// nothingLost is R12: each task is finished, given up, or still in the queue,
// and exactly one of these; and a task that counts as finished did run to its
// end. The runners still live, so what they hold counts as in the queue.
func (p *play) nothingLost() error {
	if len(p.submitted) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(p.ctx, Stretch(expectBudget), errSlow)
	defer cancel()
	contents, err := p.readQueue(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(rules.Conserved(p.submitted, contents)...); err != nil {
		return err
	}
	// The tasks' notes take another way than the queue's contents.
	missing, finished := "", contents.In(api.TaskFinished)
	err = p.record.Wait(ctx, func(s *history.Summary) bool {
		i := slices.IndexFunc(finished, func(id string) bool { return s.Task(id).Finished == 0 })
		if i >= 0 {
			missing = finished[i]
		}
		return i < 0
	})
	if err != nil {
		return fmt.Errorf("R12: task %s has a result, but never said that it came to its end", missing)
	}
	return nil
}

// allowed is what a scenario makes right: exits and signals that it is about, and
// attempts that it lets fail, or ends early without an end of the runner.
func allowed(s scenario.Scenario) rules.Allowed {
	tasks := slices.Concat(s.Tasks, scenario.Actions[scenario.Submit](s.Steps))
	owners := slices.Concat(scenario.Actions[owner](s.Steps)...) // who retry, say
	a := rules.Allowed{Killed: make(map[string]bool), Repeats: len(owners) > 0}
	for _, t := range tasks {
		a.Repeats = a.Repeats || t.Fail || t.Timeout != 0 || t.Steps > 0 // counts, and leaves in a drain
	}
	for _, r := range s.Runners {
		a.Repeats = a.Repeats || r.Flags["drain-deadline"] != ""
	}
	for _, that := range scenario.Actions[scenario.Conditions](s.Steps) {
		for _, condition := range that {
			a.Errors = a.Errors || condition["exit"] == api.ExitError
		}
	}
	for _, sent := range scenario.Actions[signal](s.Steps) {
		for name, sig := range sent {
			a.Killed[string(name)] = a.Killed[string(name)] || sig == "KILL"
		}
	}
	return a
}
