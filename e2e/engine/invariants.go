package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// invariants are what must hold at the end of every scenario, whatever it is
// about. Each names the rule of the contract that it stands for.
func (p *play) invariants() error {
	return errors.Join(p.nothingLost(), rules(p.scenario, p.record.Entries()))
}

// rules are the invariants that the record alone can show to be broken.
func rules(s scenario.Scenario, entries []history.Entry) error {
	return errors.Join(statuses(entries, true), ends(s, entries), noDuplicates(s, entries), noStepTwice(entries), gpusUnshared(entries))
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
	if err := errors.Join(conserved(p.submitted, contents)...); err != nil {
		return err
	}
	// The tasks' notes take another way than the queue's contents.
	missing, finished := "", contents.In(api.TaskFinished)
	err = p.record.Wait(ctx, func(f *history.Facts) bool {
		i := slices.IndexFunc(finished, func(id string) bool { return f.Task(id).Finished == 0 })
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

// conserved compares what was submitted with where it is now.
func conserved(submitted []string, contents targets.Contents) (wrong []error) {
	places := placesOf(contents)
	for _, id := range submitted {
		switch at := places[id]; {
		case len(at) == 0:
			wrong = append(wrong, fmt.Errorf("R12: task %s is lost: it is not in the queue, not dead and has no result", id))
		case len(at) > 1:
			wrong = append(wrong, fmt.Errorf("R12: task %s is in several places: %s", id, at))
		}
		delete(places, id)
	}
	for _, id := range slices.Sorted(maps.Keys(places)) {
		wrong = append(wrong, fmt.Errorf("R12: task %s, which nobody submitted, is in %s", id, places[id]))
	}
	return wrong
}

// placesOf is where each task is.
func placesOf(contents targets.Contents) map[string][]api.TaskState {
	places := make(map[string][]api.TaskState)
	for _, state := range []api.TaskState{api.TaskWaiting, api.TaskRunning, api.TaskFinished, api.TaskDead, api.TaskCancelled} {
		for _, id := range contents.In(state) {
			places[id] = append(places[id], state)
		}
	}
	return places
}

// process names one process of a runner.
type process struct {
	runner string
	number int
}

// statuses looks at what runners say. R11: none says that it is drained while it
// has work; what a suspended one fetched and did not start may still be on its way
// back. R5: while the state is not Running, no task starts. A complete record has no
// gap, in which the gate may have been open.
func statuses(entries []history.Entry, complete bool) error {
	last := make(map[process]*api.Status)
	for _, e := range entries {
		if e.Status == nil {
			continue
		}
		key, now := process{e.Runner, e.Process}, e.Status
		before, t := last[key], now.Tasks
		last[key] = now
		switch drained := now.Phase == api.PhaseTerminated; {
		case (drained || now.Phase == api.PhaseSuspended) && t.Running > 0, drained && t.Waiting > 0:
			return fmt.Errorf("R11: runner %s says %s with %d tasks running and %d waiting", e.Runner, now.Phase, t.Running, t.Waiting)
		case before == nil:
		case now.Sequence != before.Sequence+1:
			if complete {
				return fmt.Errorf("the record of runner %s has a gap: status %d follows %d", e.Runner, now.Sequence, before.Sequence)
			}
		case before.Phase != api.PhaseRunning && now.Phase != api.PhaseRunning && t.Started > before.Tasks.Started:
			return fmt.Errorf("R5: runner %s started %d tasks while %s (statuses %d and %d)",
				e.Runner, t.Started-before.Tasks.Started, before.Phase, before.Sequence, now.Sequence)
		}
	}
	return nil
}

// ends looks at how processes end. R9: there are no other codes, and no signal ends
// a runner but those that the scenario sends; a configuration or start-up error is
// one unless the scenario is about it. Nor does Go say that a program is wrong, or
// the harness that it may have missed something.
func ends(s scenario.Scenario, entries []history.Entry) error {
	allowed := []int{api.ExitDrained, api.ExitUnfinished, api.ExitForced, api.ExitSignalled}
	for _, that := range scenario.Actions[scenario.Conditions](s.Steps) {
		for _, condition := range that {
			if condition["exit"] == api.ExitError {
				allowed = append(allowed, api.ExitError)
			}
		}
	}
	killed := make(map[scenario.RunnerName]bool)
	for _, sent := range scenario.Actions[signal](s.Steps) {
		for name, sig := range sent {
			killed[name] = killed[name] || sig == "KILL"
		}
	}
	for _, e := range entries {
		switch {
		case e.Trouble != "":
			return fmt.Errorf("the record may have a gap: %s", e.Trouble)
		case e.Exit != nil && !slices.Contains(allowed, e.Exit.Code) && !(e.Exit.Code == -1 && killed[scenario.RunnerName(e.Runner)]):
			return fmt.Errorf("R9: runner %s exited with %d (%s), allowed here are %v", e.Runner, e.Exit.Code, e.Exit.Message, allowed)
		}
		for _, sign := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
			if strings.Contains(e.Log, sign) {
				return fmt.Errorf("runner %s: %s; see its log", e.Runner, api.Excerpt(e.Log))
			}
		}
	}
	return nil
}

// noDuplicates is the second half of R12: a task is started twice only where
// the scenario made that necessary, or its GPU has failed.
func noDuplicates(s scenario.Scenario, entries []history.Entry) error {
	blamed, failed := make(map[process]int), 0
	for _, e := range entries {
		switch {
		case e.Exit != nil && slices.Contains([]int{-1, api.ExitUnfinished, api.ExitForced}, e.Exit.Code):
			return nil // whoever ends like this has given unfinished work back
		case e.Status != nil:
			key, n := process{e.Runner, e.Process}, e.Status.Tasks.MachineFailed
			failed += n - blamed[key]
			blamed[key] = n
		}
	}
	if interrupts(s) {
		return nil
	}
	tasks := history.Sum(entries).Tasks
	for _, id := range slices.Sorted(maps.Keys(tasks)) {
		n := tasks[id].Started
		if failed -= max(0, n-1); failed < 0 {
			return fmt.Errorf("R12: task %s was started %d times, but no runner was killed or ran out of time, and no GPU failed so often", id, n)
		}
	}
	return nil
}

// noStepTwice is what a checkpoint is for: what a task has done and saved is not done
// again.
func noStepTwice(entries []history.Entry) error {
	tasks := history.Sum(entries).Tasks
	for _, id := range slices.Sorted(maps.Keys(tasks)) {
		for n, times := range tasks[id].Steps {
			if times > 1 {
				return fmt.Errorf("R12: task %s did step %d %d times, though it had saved it", id, n, times)
			}
		}
	}
	return nil
}

// interrupts says whether a scenario lets attempts fail, or ends them early
// without an end of the runner.
func interrupts(s scenario.Scenario) bool {
	tasks := slices.Concat(s.Tasks, scenario.Actions[scenario.Submit](s.Steps))
	owners := slices.Concat(scenario.Actions[owner](s.Steps)...) // who retry, say
	return len(owners) > 0 ||
		slices.ContainsFunc(tasks, func(t scenario.Submit) bool { return t.Fail || t.Timeout != 0 || t.Steps > 0 }) ||
		slices.ContainsFunc(slices.Collect(maps.Values(s.Runners)), func(r scenario.Runner) bool { return r.Flags["drain-deadline"] != "" })
}
