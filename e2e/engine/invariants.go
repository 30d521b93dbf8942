package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

// invariants are what must hold at the end of every scenario, whatever it is
// about. Each names the rule of the contract that it stands for.
func (p *play) invariants() error {
	entries := p.record.Entries()
	return errors.Join(
		p.nothingLost(),
		truthful(entries),
		gateHolds(entries),
		unbroken(entries),
		exitCodes(entries),
		p.noDuplicates(),
		gpusUnshared(entries),
		noCrash(entries),
	)
}

// nothingLost is R12: each task is finished, given up, or still in the queue,
// and exactly one of these; and a task that counts as finished did run to its
// end.
func (p *play) nothingLost() error {
	if len(p.submitted) == 0 {
		return nil
	}
	return p.bounded(queueBudget, func(ctx context.Context) error {
		contents, err := p.readQueue(ctx)
		if err != nil {
			return err
		}
		places := make(map[string][]string)
		put := func(place string, ids ...string) {
			for _, id := range ids {
				places[id] = append(places[id], place)
			}
		}
		put("finished", contents.Finished...)
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
		var wrong []error
		for _, id := range p.submitted {
			switch at := places[id]; {
			case len(at) == 0:
				wrong = append(wrong, fmt.Errorf("R12: task %s is lost: it is not in the queue, not dead and has no result", id))
			case len(at) > 1:
				wrong = append(wrong, fmt.Errorf("R12: task %s is in several places: %s", id, strings.Join(at, ", ")))
			}
			delete(places, id)
		}
		for id, at := range places {
			wrong = append(wrong, fmt.Errorf("R12: task %s, which nobody submitted, is %s", id, strings.Join(at, ", ")))
		}
		if len(wrong) > 0 {
			return errors.Join(wrong...)
		}
		for _, id := range contents.Finished {
			err := p.record.Wait(ctx, func(f *history.Facts) bool { return f.Task(id).Finished > 0 })
			if err != nil {
				return fmt.Errorf("R12: task %s has a result, but never said that it came to its end: %w", id, err)
			}
		}
		return nil
	})
}

// truthful is R11: no runner says that it is drained while it has work.
func truthful(entries []history.Entry) error {
	for _, e := range entries {
		if e.Status == nil {
			continue
		}
		drained := e.Status.Phase == api.PhaseSuspended || e.Status.Phase == api.PhaseTerminated
		if t := e.Status.Tasks; drained && (t.Running > 0 || t.Waiting > 0) {
			return fmt.Errorf("R11: runner %s says %s with %d tasks running and %d waiting", e.Runner, e.Status.Phase, t.Running, t.Waiting)
		}
	}
	return nil
}

// eachPair calls look with every two consecutive statuses of a process.
func eachPair(entries []history.Entry, look func(e history.Entry, before, after *api.Status) error) error {
	type process struct {
		runner string
		number int
	}
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
		closed := before.Phase != api.PhaseRunning && after.Phase != api.PhaseRunning
		if n := after.Tasks.Started - before.Tasks.Started; closed && n > 0 {
			return fmt.Errorf("R5: runner %s started %d tasks while %s", e.Runner, n, before.Phase)
		}
		return nil
	})
}

// unbroken says whether the record has every status, so that the others can
// rely on it.
func unbroken(entries []history.Entry) error {
	return eachPair(entries, func(e history.Entry, before, after *api.Status) error {
		if after.Sequence != before.Sequence+1 {
			return fmt.Errorf("the record of runner %s has a gap: status %d follows %d", e.Runner, after.Sequence, before.Sequence)
		}
		return nil
	})
}

// exitCodes is R9: there are no other codes. -1 is a signal that the harness sent.
func exitCodes(entries []history.Entry) error {
	known := []int{-1, api.ExitDrained, api.ExitUnfinished, api.ExitForced, api.ExitSignalled}
	for _, e := range entries {
		if e.Exit != nil && !slices.Contains(known, e.Exit.Code) {
			return fmt.Errorf("R9: runner %s exited with %d: %s", e.Runner, e.Exit.Code, e.Exit.Message)
		}
	}
	return nil
}

// noDuplicates is the second half of R12: a task is started twice only where
// the scenario made that necessary.
func (p *play) noDuplicates() error {
	if interrupts(p.scenario) {
		return nil
	}
	var err error
	p.record.View(func(f *history.Facts) {
		for id, t := range f.Tasks {
			if t.Started > 1 {
				err = errors.Join(err, fmt.Errorf("R12: task %s was started %d times without a reason", id, t.Started))
			}
		}
	})
	return err
}

// interrupts says whether a scenario ends attempts early, or lets them fail.
func interrupts(s scenario.Scenario) bool {
	fails := func(t scenario.Submit) bool { return t.Fail || t.Timeout != "" }
	if slices.ContainsFunc(s.Tasks, fails) {
		return true
	}
	for _, r := range s.Runners {
		if r.Flags["drain-deadline"] != "" || r.Flags["grace-period"] != "" {
			return true
		}
	}
	terms := make(map[string]int)
	for _, step := range s.Steps {
		if step.Submit != nil && fails(*step.Submit) {
			return true
		}
		for runner, sig := range step.Signal {
			if terms[runner]++; sig == "KILL" || terms[runner] > 1 {
				return true
			}
		}
	}
	return false
}

// gpusUnshared is R13: no two tasks hold a GPU at the same time, as the tasks
// themselves tell.
func gpusUnshared(entries []history.Entry) error {
	holders := make(map[string]string) // GPU -> task and runner
	for _, e := range entries {
		switch {
		case e.Exit != nil: // its tasks are gone, whether they could say so or not
			for gpu, holder := range holders {
				if strings.HasSuffix(holder, " on "+e.Runner) {
					delete(holders, gpu)
				}
			}
		case e.Note != nil && e.Note.GPUs != "":
			holder := fmt.Sprintf("%s on %s", e.Note.Task, e.Note.Runner)
			for gpu := range strings.SplitSeq(e.Note.GPUs, ",") {
				if other := holders[gpu]; !e.Note.End && other != "" && other != holder {
					return fmt.Errorf("R13: GPU %s is held by %s and %s", gpu, other, holder)
				}
				if e.Note.End {
					delete(holders, gpu)
				} else {
					holders[gpu] = holder
				}
			}
		}
	}
	return nil
}

// noCrash looks for what Go says when a program is wrong.
func noCrash(entries []history.Entry) error {
	for _, e := range entries {
		for _, sign := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
			if strings.HasPrefix(e.Log, sign) {
				return fmt.Errorf("runner %s: %s; see its log", e.Runner, e.Log)
			}
		}
	}
	return nil
}
