package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// State says in a line what a runner does, and why.
func State(s *api.Status) string {
	text := string(s.Phase)
	if s.Target != api.Unset {
		text += " to " + string(s.Target)
	}
	if s.Source != "" {
		text += ", source " + string(s.Source)
	}
	if s.Effective != api.Unset {
		text += ", effective " + string(s.Effective)
	}
	if s.Shadowed != nil {
		text += fmt.Sprintf(", shadowed %s", s.Shadowed.Value)
	}
	return text
}

// Describe says in a line what a status says.
func Describe(s *api.Status) string {
	text := State(s) + fmt.Sprintf(", %d running, %d waiting", s.Tasks.Running, s.Tasks.Waiting)
	for _, m := range []*api.MapStatus{s.Maps.Global, s.Maps.Node} {
		if m != nil {
			text += fmt.Sprintf(", %s@%s", m.Name, m.ResourceVersion)
			if m.Problem != "" {
				text += " (" + m.Problem + ")"
			}
		}
	}
	if s.Reason != "" {
		text += "; " + s.Reason
	}
	return text
}

// Summary says in a few lines what is so now: the step under way, for how long,
// and each runner's newest status.
func (h *History) Summary() string {
	var lines []string
	h.View(func(f *Facts) {
		if f.Step != nil {
			lines = append(lines, fmt.Sprintf("%s, since %s", f.Step.line(), time.Since(f.Since).Round(time.Millisecond)))
		}
		for _, name := range slices.Sorted(maps.Keys(f.Runners)) {
			lines = append(lines, fmt.Sprintf("runner %s: %s", name, f.Runners[name].Describe()))
		}
		started, finished := f.Counts("")
		lines = append(lines, fmt.Sprintf("tasks: %d started, %d finished", started, finished))
	})
	return strings.Join(lines, "\n")
}

// Describe says in a line what is known of a runner.
func (r *Runner) Describe() string {
	var text string
	switch {
	case r.Processes == 0:
		text = "never started"
	case r.Status == nil:
		text = "no status yet"
	default:
		text = Describe(r.Status)
	}
	if r.Exit != nil {
		text += fmt.Sprintf("; exited with %d: %s", r.Exit.Code, cmp.Or(r.Exit.Message, "no message"))
	}
	return text
}

// DescribeTasks says in a line what is known of the tasks of a group, or of all.
func (f *Facts) DescribeTasks(group string) string {
	started, finished := f.Counts(group)
	text := fmt.Sprintf("%d started, %d finished", started, finished)
	if f.Queue != nil {
		text += fmt.Sprintf("; in the queue, when it was last read: %d free, %d claimed, %d dead",
			f.Queued(group, api.TaskWaiting), f.Queued(group, api.TaskRunning), f.Queued(group, api.TaskDead))
	}
	return text
}
