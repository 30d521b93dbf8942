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
	may := allowed(p.scenario)
	return errors.Join(p.nothingLost(may), may.Broken(p.record.Entries()))
}

// nothingLost is R12: each task is finished, given up, or still in the queue,
// and exactly one of these; and a task that counts as finished did run to its
// end. The runners still live, so what they hold counts as in the queue.
func (p *play) nothingLost(may rules.Allowed) error {
	if len(p.submitted) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(p.ctx, Stretch(expectBudget), errSlow)
	defer cancel()
	contents, err := p.readQueue(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(may.Conserved(p.submitted, contents)...); err != nil {
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

var everything = rules.Groups{""}

// allowed is what a scenario makes right: exits and signals that it is about, and
// attempts that it lets fail, or ends early without an end of the runner.
func allowed(s scenario.Scenario) rules.Allowed {
	a := rules.Allowed{
		Errors: make(map[string]bool), Killed: make(map[string]int), Signalled: make(map[string]bool),
		Unheard: len(scenario.Actions[kubectl](s.Steps))+len(scenario.Actions[Manifest](s.Steps)) > 0, // who delete pods, say
	}
	if len(scenario.Actions[owner](s.Steps)) > 0 { // to whom all tasks belong: they cancel and retry
		a.Repeats, a.Fails, a.Cancels = everything, everything, true
	}
	for _, r := range s.Runners {
		if r.Flags["drain-deadline"] != "" {
			a.Repeats = everything
		}
	}
	for _, t := range slices.Concat(s.Tasks, scenario.Actions[scenario.Submit](s.Steps)) {
		if t.Fail || t.Timeout != 0 || t.Steps > 0 { // which counts, and leaves in a drain
			a.Repeats = append(a.Repeats, string(t.Group))
		}
		if t.Fail || t.Timeout != 0 || t.Expires != 0 {
			a.Fails = append(a.Fails, string(t.Group))
		}
	}
	for _, that := range scenario.Actions[scenario.Conditions](s.Steps) {
		for runner, condition := range that {
			if condition["exit"] == api.ExitError {
				a.Errors[runner] = true
			}
		}
	}
	for _, sent := range scenario.Actions[signal](s.Steps) {
		for name, sig := range sent {
			switch sig {
			case "KILL":
				a.Killed[string(name)]++
			case "TERM", "INT", "HUP":
				a.Signalled[string(name)] = true
			}
		}
	}
	return a
}
