package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/history"
)

// attempt is one run of a task.
type attempt struct {
	runner, task string
	number       int
}

func (a attempt) String() string { return fmt.Sprintf("task %s on runner %s", a.task, a.runner) }

// hold is a GPU in the hands of an attempt, from one entry of the record to
// another one; to is 0 for an attempt that never noted its end.
type hold struct {
	attempt
	from, to int
}

// gpusUnshared is R13: no two tasks hold a GPU at the same time, as the tasks
// themselves tell. A task that is killed cannot tell its end, and the runner's
// statuses come by another way than the tasks' notes; so of such a task only a
// status that lists it together with the other one is proof.
func gpusUnshared(entries []history.Entry) error {
	holds := make(map[string][]*hold) // by GPU, in the order of their begin
	for _, e := range entries {
		if e.Note == nil || e.Note.Step > 0 || e.Note.GPUs == "" {
			continue
		}
		a := attempt{e.Note.Runner, e.Note.Task, e.Note.Attempt}
		for gpu := range strings.SplitSeq(e.Note.GPUs, ",") {
			if !e.Note.End {
				holds[gpu] = append(holds[gpu], &hold{a, e.Sequence, 0})
				continue
			}
			for _, h := range holds[gpu] {
				if h.attempt == a {
					h.to = e.Sequence
				}
			}
		}
	}
	for gpu, all := range holds {
		for i, later := range all {
			for _, earlier := range all[:i] {
				if earlier.to > later.from || earlier.to == 0 && listedTogether(entries, earlier.attempt, later.attempt) {
					return fmt.Errorf("R13: GPU %s was given to %s while %s held it", gpu, later, earlier)
				}
			}
		}
	}
	return nil
}

// listedTogether says whether a status lists both attempts as running.
func listedTogether(entries []history.Entry, a, b attempt) bool {
	if a.runner != b.runner || a == b {
		return false
	}
	return slices.ContainsFunc(entries, func(e history.Entry) bool {
		if e.Status == nil || e.Runner != a.runner {
			return false
		}
		lists := 0
		for _, t := range e.Status.InFlight {
			if other := (attempt{e.Runner, t.ID, t.Attempt}); other == a || other == b {
				lists++
			}
		}
		return lists == 2
	})
}
