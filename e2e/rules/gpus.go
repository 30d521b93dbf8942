package rules

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
