package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	dead, owners := mayFail(p.scenario)
	if err := errors.Join(append(rules.Conserved(p.submitted, contents), rules.Causeless(contents, dead, owners)...)...); err != nil {
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

// submits are all that a scenario puts into the queue.
func submits(s scenario.Scenario) []scenario.Submit {
	return slices.Concat(s.Tasks, scenario.Actions[scenario.Submit](s.Steps))
}

// owners are the lines of those to whom tasks belong: they cancel and retry.
func owners(s scenario.Scenario) []string { return slices.Concat(scenario.Actions[owner](s.Steps)...) }

// mayFail says which groups may have dead tasks, and whether tasks may be cancelled. What
// an Observation submits is nobody's file.
func mayFail(s scenario.Scenario) (groups []string, cancelled bool) {
	cancelled = len(owners(s)) > 0 || s.Path == ""
	for _, t := range submits(s) {
		if t.Fail || t.Timeout != 0 || t.Expires != 0 {
			groups = append(groups, string(t.Group))
		}
	}
	if cancelled {
		groups = append(groups, "")
	}
	return groups, cancelled
}

// allowed is what a scenario makes right: exits and signals that it is about, and
// attempts that it lets fail, or ends early without an end of the runner.
func allowed(s scenario.Scenario) rules.Allowed {
	a := rules.Allowed{
		Errors: make(map[string]bool), Killed: make(map[string]int), Signalled: make(map[string]bool),
		Unheard: len(scenario.Actions[kubectl](s.Steps))+len(scenario.Actions[Manifest](s.Steps)) > 0, // who delete pods, say
	}
	if len(owners(s)) > 0 || slices.ContainsFunc(slices.Collect(maps.Values(s.Runners)), func(r scenario.Runner) bool {
		return r.Flags["drain-deadline"] != ""
	}) {
		a.Repeats = []string{""}
	}
	for _, t := range submits(s) {
		if t.Fail || t.Timeout != 0 || t.Steps > 0 { // which counts, and leaves in a drain
			a.Repeats = append(a.Repeats, string(t.Group))
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
