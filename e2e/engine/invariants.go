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
	"github.com/studioml/studio-go-runner/runner/api"
)

// invariants are what must hold at the end of every scenario, whatever it is
// about. Each names the rule of the contract that it stands for.
func (p *play) invariants() error {
	return errors.Join(p.nothingLost(), rules(p.scenario, p.record.Entries()))
}

// rules are the invariants that the record alone can show to be broken.
func rules(s scenario.Scenario, entries []history.Entry) error {
	return errors.Join(
		truthful(entries),
		gateHolds(entries),
		unbroken(entries),
		exitCodes(s, entries),
		noDuplicates(s, entries),
		noStepTwice(entries),
		gpusUnshared(entries),
		noCrash(entries),
	)
}

// nothingLost is R12: each task is finished, given up, or still in the queue,
// and exactly one of these; and a task that counts as finished did run to its
// end. The runners still live, so what they hold counts as in the queue.
func (p *play) nothingLost() error {
	if len(p.submitted) == 0 {
		return nil
	}
	return p.bounded(queueBudget, func(ctx context.Context) error {
		contents, err := p.readQueue(ctx)
		if err != nil {
			return err
		}
		if err := errors.Join(conserved(p.submitted, contents)...); err != nil {
			return err
		}
		// The tasks' notes take another way than the queue's contents.
		missing := ""
		err = p.record.Wait(ctx, func(f *history.Facts) bool {
			i := slices.IndexFunc(contents.Finished, func(id string) bool { return f.Task(id).Finished == 0 })
			if i >= 0 {
				missing = contents.Finished[i]
			}
			return i < 0
		})
		if err != nil {
			return fmt.Errorf("R12: task %s has a result, but never said that it came to its end", missing)
		}
		return nil
	})
}

// conserved compares what was submitted with where it is now.
func conserved(submitted []string, contents api.QueueContents) (wrong []error) {
	places := make(map[string][]string)
	put := func(place string, ids ...string) {
		for _, id := range ids {
			places[id] = append(places[id], place)
		}
	}
	put("finished", contents.Finished...)
	put("cancelled", contents.Cancelled...)
	for _, t := range contents.Ready {
		put("ready", t.ID)
	}
	for _, t := range contents.Claimed {
		put("claimed", t.ID)
	}
	for _, d := range contents.Dead {
		if d.Task != nil {
			put("dead", d.Task.ID)
		}
	}
	for _, id := range submitted {
		switch at := places[id]; {
		case len(at) == 0:
			wrong = append(wrong, fmt.Errorf("R12: task %s is lost: it is not in the queue, not dead and has no result", id))
		case len(at) > 1:
			wrong = append(wrong, fmt.Errorf("R12: task %s is in several places: %s", id, strings.Join(at, ", ")))
		}
		delete(places, id)
	}
	for _, id := range slices.Sorted(maps.Keys(places)) {
		wrong = append(wrong, fmt.Errorf("R12: task %s, which nobody submitted, is %s", id, strings.Join(places[id], ", ")))
	}
	return wrong
}

// truthful is R11: no runner says that it is drained while it has work. What a
// suspended runner fetched and did not start may still be on its way back.
func truthful(entries []history.Entry) error {
	for _, e := range entries {
		if e.Status == nil {
			continue
		}
		t := e.Status.Tasks
		switch phase := e.Status.Phase; {
		case (phase == api.PhaseSuspended || phase == api.PhaseTerminated) && t.Running > 0,
			phase == api.PhaseTerminated && t.Waiting > 0:
			return fmt.Errorf("R11: runner %s says %s with %d tasks running and %d waiting", e.Runner, phase, t.Running, t.Waiting)
		}
	}
	return nil
}

// process names one process of a runner.
type process struct {
	runner string
	number int
}

// eachPair calls look with every two consecutive statuses of a process.
func eachPair(entries []history.Entry, look func(e history.Entry, before, after *api.Status) error) error {
	last := make(map[process]*api.Status)
	for _, e := range entries {
		if e.Status == nil {
			continue
		}
		key := process{e.Runner, e.Process}
		if before := last[key]; before != nil {
			if err := look(e, before, e.Status); err != nil {
				return err
			}
		}
		last[key] = e.Status
	}
	return nil
}

// gateHolds is R5: while the state is not Running, no task starts.
func gateHolds(entries []history.Entry) error {
	return eachPair(entries, func(e history.Entry, before, after *api.Status) error {
		// Between two that do not follow each other it may have been open.
		closed := before.Phase != api.PhaseRunning && after.Phase != api.PhaseRunning && after.Sequence == before.Sequence+1
		if n := after.Tasks.Started - before.Tasks.Started; closed && n > 0 {
			return fmt.Errorf("R5: runner %s started %d tasks while %s (statuses %d and %d)",
				e.Runner, n, before.Phase, before.Sequence, after.Sequence)
		}
		return nil
	})
}

// unbroken says whether the record has everything, so that the others can rely
// on it.
func unbroken(entries []history.Entry) error {
	for _, e := range entries {
		if e.Trouble != "" {
			return fmt.Errorf("the record may have a gap: %s", e.Trouble)
		}
	}
	return eachPair(entries, func(e history.Entry, before, after *api.Status) error {
		if after.Sequence != before.Sequence+1 {
			return fmt.Errorf("the record of runner %s has a gap: status %d follows %d", e.Runner, after.Sequence, before.Sequence)
		}
		return nil
	})
}

// exitCodes is R9: there are no other codes, and no signal ends a runner but
// those that the scenario sends. A configuration or start-up error is one
// unless the scenario is about it.
func exitCodes(s scenario.Scenario, entries []history.Entry) error {
	for _, e := range entries {
		if e.Exit == nil {
			continue
		}
		allowed := []int{api.ExitDrained, api.ExitUnfinished, api.ExitForced, api.ExitSignalled}
		if expectsExit(s, api.ExitError) {
			allowed = append(allowed, api.ExitError)
		}
		if signalled(s, e.Runner, "KILL") {
			allowed = append(allowed, -1)
		}
		if !slices.Contains(allowed, e.Exit.Code) {
			return fmt.Errorf("R9: runner %s exited with %d (%s), allowed here are %v", e.Runner, e.Exit.Code, e.Exit.Message, allowed)
		}
	}
	return nil
}

func expectsExit(s scenario.Scenario, code int) bool {
	for that := range scenario.Actions[scenario.Conditions](s.Steps) {
		for _, condition := range that {
			if condition["exit"] == code {
				return true
			}
		}
	}
	return false
}

func signalled(s scenario.Scenario, runner string, name signalName) bool {
	for sent := range scenario.Actions[signal](s.Steps) {
		if sent[scenario.RunnerName(runner)] == name {
			return true
		}
	}
	return false
}

// noDuplicates is the second half of R12: a task is started twice only where
// the scenario made that necessary.
func noDuplicates(s scenario.Scenario, entries []history.Entry) error {
	facts := history.NewFacts()
	for _, e := range entries {
		// Whoever ends like this has given unfinished work back.
		if e.Exit != nil && slices.Contains([]int{-1, api.ExitUnfinished, api.ExitForced}, e.Exit.Code) {
			return nil
		}
		facts.Apply(e)
	}
	if interrupts(s) {
		return nil
	}
	blamed := blamedOnGPUs(entries)
	for _, id := range slices.Sorted(maps.Keys(facts.Tasks)) {
		n := facts.Tasks[id].Started
		if blamed -= max(0, n-1); blamed < 0 {
			return fmt.Errorf("R12: task %s was started %d times, but no runner was killed or ran out of time, and no GPU failed so often", id, n)
		}
	}
	return nil
}

// noStepTwice is what a checkpoint is for: what a task has done and saved is not done
// again.
func noStepTwice(entries []history.Entry) error {
	facts := history.NewFacts()
	for _, e := range entries {
		facts.Apply(e)
	}
	for _, id := range slices.Sorted(maps.Keys(facts.Tasks)) {
		steps := facts.Tasks[id].Steps
		for _, n := range slices.Sorted(maps.Keys(steps)) {
			if steps[n] > 1 {
				return fmt.Errorf("R12: task %s did step %d %d times, though it had saved it", id, n, steps[n])
			}
		}
	}
	return nil
}

// blamedOnGPUs counts the attempts that ended with their GPU, as the runners'
// processes tell.
func blamedOnGPUs(entries []history.Entry) (all int) {
	last := make(map[process]int)
	for _, e := range entries {
		if e.Status != nil {
			last[process{e.Runner, e.Process}] = e.Status.Tasks.MachineFailed
		}
	}
	for _, n := range last {
		all += n
	}
	return all
}

// interrupts says whether a scenario lets attempts fail, or ends them early
// without an end of the runner.
func interrupts(s scenario.Scenario) bool {
	fails := func(t scenario.Submit) bool { return t.Fail || t.Timeout != 0 || t.Steps > 0 }
	if slices.ContainsFunc(s.Tasks, fails) {
		return true
	}
	for t := range scenario.Actions[scenario.Submit](s.Steps) {
		if fails(t) {
			return true
		}
	}
	for lines := range scenario.Actions[owner](s.Steps) {
		if len(lines) > 0 { // a retry, say
			return true
		}
	}
	for _, r := range s.Runners {
		if r.Flags["drain-deadline"] != "" {
			return true
		}
	}
	return false
}

// noCrash looks for what Go says when a program is wrong.
func noCrash(entries []history.Entry) error {
	for _, e := range entries {
		for _, sign := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
			if strings.Contains(e.Log, sign) {
				return fmt.Errorf("runner %s: %s; see its log", e.Runner, api.Excerpt(e.Log))
			}
		}
	}
	return nil
}
