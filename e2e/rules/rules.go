// Package rules says which rules of the contract a record shows to be broken. They
// hold of every scenario, whatever it is about; each error names the rule.
package rules

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// Allowed is what is right in one scenario and wrong elsewhere.
type Allowed struct {
	// Errors are the runners that may end because of a configuration or start-up error.
	Errors map[string]bool
	// Killed is how often runners are sent SIGKILL.
	Killed map[string]int
	// Signalled are the runners that are sent a signal to drain; Unheard is that others than
	// steps may send one, too.
	Signalled map[string]bool
	Unheard   bool
	// Repeats are tasks that may be started a second time where no end of a runner and no
	// GPU explains it.
	Repeats Groups
	// Fails are tasks that may be given up; Cancels is that owners may cancel any.
	Fails   Groups
	Cancels bool
	// Gaps are statuses that nobody read, while runners that others start and end
	// were out of reach; how those end is not looked at.
	Gaps bool
}

// Groups are groups of tasks; the empty one is all tasks.
type Groups []string

func (g Groups) have(id string) bool {
	return slices.ContainsFunc(g, func(group string) bool { return history.InGroup(id, group) })
}

// Broken joins the rules that the record alone shows to be broken.
func (a Allowed) Broken(entries []history.Entry) error {
	always := errors.Join(a.statuses(entries), a.duplicates(entries), gpusUnshared(entries))
	if a.Gaps {
		return always
	}
	return errors.Join(always, a.ends(entries), noStepTwice(entries))
}

// Conserved is the first half of R12: it compares what was submitted with where it is
// now. Each task is finished, given up, or still in the queue, and exactly one of these;
// and it is given up or cancelled only where the scenario lets that be.
func (a Allowed) Conserved(submitted []string, contents targets.Contents) (wrong []error) {
	places := make(map[string][]api.TaskState)
	for _, state := range []api.TaskState{api.TaskWaiting, api.TaskRunning, api.TaskFinished, api.TaskDead, api.TaskCancelled} {
		for _, id := range contents.In(state) {
			places[id] = append(places[id], state)
		}
	}
	for _, id := range submitted {
		switch at := places[id]; {
		case len(at) == 0:
			wrong = append(wrong, fmt.Errorf("R12: task %s is lost: it is not in the queue, not dead and has no result", id))
		case len(at) > 1:
			wrong = append(wrong, fmt.Errorf("R12: task %s is in several places: %s", id, at))
		case at[0] == api.TaskDead && !a.Fails.have(id):
			wrong = append(wrong, fmt.Errorf("R12: task %s was given up, and nothing has let it fail", id))
		case at[0] == api.TaskCancelled && !a.Cancels:
			wrong = append(wrong, fmt.Errorf("R12: task %s was cancelled, but not by its owner", id))
		}
		delete(places, id)
	}
	for _, id := range slices.Sorted(maps.Keys(places)) {
		wrong = append(wrong, fmt.Errorf("R12: task %s, which nobody submitted, is in %s", id, places[id]))
	}
	return wrong
}

// process names one process of a runner.
type process struct {
	runner string
	number int
}

// statuses looks at what runners say. R11: none says that it is drained while it
// has work. R5: while the state is not Running, no task starts. In a gap of the record the
// gate may have been open.
func (a Allowed) statuses(entries []history.Entry) error {
	last := make(map[process]*api.Status)
	for _, e := range entries {
		if e.Status == nil {
			continue
		}
		key, now := process{e.Runner, e.Process}, e.Status
		before, t := last[key], now.Tasks
		last[key] = now
		switch drained := now.Phase == api.PhaseTerminated || now.Phase == api.PhaseSuspended; {
		case drained && t.Running+t.Waiting > 0:
			return fmt.Errorf("R11: runner %s says %s with %d tasks running and %d waiting", e.Runner, now.Phase, t.Running, t.Waiting)
		case before == nil:
		case now.Sequence != before.Sequence+1:
			if !a.Gaps {
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
func (a Allowed) ends(entries []history.Entry) error {
	killed, last := maps.Clone(a.Killed), make(map[process]*api.Status)
	for _, e := range entries {
		switch {
		case e.Trouble != "":
			return fmt.Errorf("the record may have a gap: %s", e.Trouble)
		case e.Status != nil:
			last[process{e.Runner, e.Process}] = e.Status
		case e.Exit != nil && e.Exit.Code == -1 && killed[e.Runner] > 0:
			killed[e.Runner]--
		case e.Exit != nil:
			if err := a.exit(e, last[process{e.Runner, e.Process}]); err != nil {
				return err
			}
		}
		for _, sign := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
			if strings.Contains(e.Log, sign) {
				return fmt.Errorf("runner %s: %s; see its log", e.Runner, api.Excerpt(e.Log))
			}
		}
	}
	return nil
}

// exit looks at an exit after the last word of its process, nil if there was none. R9: 0
// is what STATE or the runner's own limit has asked for, and 143 is after a signal; with 11
// a second one has forced it.
func (a Allowed) exit(e history.Entry, last *api.Status) error {
	allowed := []int{api.ExitDrained, api.ExitUnfinished, api.ExitForced, api.ExitSignalled}
	if a.Errors[e.Runner] {
		allowed = append(allowed, api.ExitError)
	}
	code := e.Exit.Code
	switch asked := last == nil || last.Effective == api.DrainAndTerminate || last.Source == api.SourceLimit; {
	case !slices.Contains(allowed, code):
		return fmt.Errorf("R9: runner %s exited with %d (%s), allowed here are %v", e.Runner, code, e.Exit.Message, allowed)
	case code == api.ExitDrained && !asked:
		return fmt.Errorf("R9: runner %s exited with 0 (%s), but its last word was %s, effective %s, source %s",
			e.Runner, e.Exit.Message, last.Phase, cmp.Or(last.Effective, "none"), cmp.Or(last.Source, "none"))
	case (code == api.ExitSignalled || code == api.ExitForced) && !a.Signalled[e.Runner] && !a.Unheard:
		return fmt.Errorf("R9: runner %s exited with %d (%s), but nobody has sent it a signal", e.Runner, code, e.Exit.Message)
	}
	return nil
}

// duplicates is the second half of R12: a task is started twice only where the scenario
// made that necessary, a runner that had it has ended without finishing its work, or its
// GPU has failed.
func (a Allowed) duplicates(entries []history.Entry) error {
	blamed, failed := make(map[process]int), 0
	gaveBack := make(map[string]bool) // runners
	for _, e := range entries {
		switch {
		case e.Exit != nil && slices.Contains([]int{-1, api.ExitUnfinished, api.ExitForced}, e.Exit.Code):
			gaveBack[e.Runner] = true
		case e.Status != nil:
			key, n := process{e.Runner, e.Process}, e.Status.Tasks.MachineFailed
			failed += n - blamed[key]
			blamed[key] = n
		}
	}
	starts, excused := make(map[string]int), make(map[string]bool)
	for _, e := range entries {
		if e.Note == nil || e.Note.End || e.Note.Step > 0 {
			continue
		}
		id := e.Note.Task
		if starts[id]++; starts[id] > 1 && !excused[id] && !a.Repeats.have(id) {
			if failed--; failed < 0 {
				return fmt.Errorf("R12: task %s was started %d times, but no runner that had it was killed or ran out of time, and no GPU failed so often",
					id, starts[id])
			}
		}
		excused[id] = excused[id] || gaveBack[e.Note.Runner]
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

// attempt is one run of a task.
type attempt struct {
	runner, task string
	number       int
}

func (a attempt) String() string { return fmt.Sprintf("task %s on runner %s", a.task, a.runner) }

// gpusUnshared is R13: no two tasks hold a GPU at the same time, as the tasks
// themselves tell. A task that is killed cannot tell its end, and the runner's
// statuses come by another way than the tasks' notes; so of such a task only a
// status that lists it together with the other one is proof.
func gpusUnshared(entries []history.Entry) error {
	type handover struct {
		gpu            string
		earlier, later attempt
	}
	var early []handover // while the earlier one had not told its end
	holders, ended := make(map[string][]attempt), make(map[attempt]bool)
	for _, e := range entries {
		if e.Note == nil || e.Note.Step > 0 || e.Note.GPUs == "" {
			continue
		}
		a := attempt{e.Note.Runner, e.Note.Task, e.Note.Attempt}
		ended[a] = e.Note.End
		for gpu := range strings.SplitSeq(e.Note.GPUs, ",") {
			if e.Note.End {
				holders[gpu] = slices.DeleteFunc(holders[gpu], func(h attempt) bool { return h == a })
				continue
			}
			for _, h := range holders[gpu] {
				early = append(early, handover{gpu, h, a})
			}
			holders[gpu] = append(holders[gpu], a)
		}
	}
	for _, h := range early {
		if ended[h.earlier] || listedTogether(entries, h.earlier, h.later) {
			return fmt.Errorf("R13: GPU %s was given to %s while %s held it", h.gpu, h.later, h.earlier)
		}
	}
	return nil
}

// listedTogether says whether a status lists both attempts as running; of two runners of
// one machine, whether the last word of each is that its own one runs.
func listedTogether(entries []history.Entry, a, b attempt) bool {
	if a == b {
		return false
	}
	if a.runner != b.runner {
		one, other := history.Sum(entries).Runner(a.runner), history.Sum(entries).Runner(b.runner)
		return one.Exit == nil && other.Exit == nil && lists(one.Status, a) && lists(other.Status, b)
	}
	return slices.ContainsFunc(entries, func(e history.Entry) bool {
		return e.Runner == a.runner && lists(e.Status, a) && lists(e.Status, b)
	})
}

// lists says whether a status, if there is one, is that an attempt runs.
func lists(s *api.Status, a attempt) bool {
	return s != nil && slices.ContainsFunc(s.InFlight, func(t api.InFlight) bool {
		return t.ID == a.task && t.Attempt == a.number
	})
}
