package history

import (
	"fmt"
	"strings"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Timeline writes the record for people: one line an entry, with the seconds
// since the beginning. Log lines are left to the runners' logs.
func (h *History) Timeline() string {
	const most = 2000 // lines; a storm of changes needs no more to be understood
	entries := h.Entries()
	var text strings.Builder
	lines := 0
	for _, e := range entries {
		line := e.line()
		if line == "" {
			continue
		}
		if lines++; lines > most {
			text.WriteString("…\n")
			break
		}
		fmt.Fprintf(&text, "%8.3fs  %s\n", e.Time.Sub(entries[0].Time).Seconds(), line)
	}
	return text.String()
}

func (e Entry) line() string {
	runner := fmt.Sprintf("runner %s", e.Runner)
	if e.Process > 1 {
		runner += fmt.Sprintf("#%d", e.Process)
	}
	switch {
	case e.Step != "":
		return "--- " + e.Step
	case e.Mark != "":
		return "mark " + e.Mark
	case e.Start:
		return runner + " is started"
	case e.Map != nil && e.Map.Deleted:
		return fmt.Sprintf("map %s deleted, version %s", e.Map.Name, e.Map.ResourceVersion)
	case e.Map != nil:
		return fmt.Sprintf("map %s STATE=%s, version %s", e.Map.Name, api.Excerpt(e.Map.State), e.Map.ResourceVersion)
	case e.Status != nil:
		return runner + " " + Describe(e.Status)
	case e.Exit != nil:
		return fmt.Sprintf("%s exited with %d: %s", runner, e.Exit.Code, e.Exit.Message)
	case e.Note != nil && e.Note.End:
		return fmt.Sprintf("task %s finished, start %d on %s", e.Note.Task, e.Note.Attempt, e.Note.Runner)
	case e.Note != nil:
		return fmt.Sprintf("task %s started, start %d on %s", e.Note.Task, e.Note.Attempt, e.Note.Runner)
	case e.Queue != nil:
		return fmt.Sprintf("queue: %d ready, %d claimed, %d dead, %d finished",
			len(e.Queue.Ready), len(e.Queue.Claimed), len(e.Queue.Dead), len(e.Queue.Finished))
	}
	return ""
}

// Describe says in a line what a status says.
func Describe(s *api.Status) string {
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
	text += fmt.Sprintf(", %d running, %d waiting", s.Tasks.Running, s.Tasks.Waiting)
	for _, m := range []*api.MapStatus{s.Maps.Global, s.Maps.Node} {
		if m != nil {
			text += fmt.Sprintf(", %s@%s", m.Name, m.ResourceVersion)
			if m.Problem != "" {
				text += " (" + m.Problem + ")"
			}
		}
	}
	return text
}
