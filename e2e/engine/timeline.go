package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/history"
)

// Bounds of a timeline. A storm of changes needs no more to be understood, and
// what matters most is at its end.
const (
	firstLines = 500
	lastLines  = 1500
	maxLine    = 400 // bytes
)

// Timeline writes a record for people: one line an entry, with the seconds since the
// beginning. Log lines are left to the runners' logs.
func Timeline(record *history.History) string {
	lines := timeline(record)
	if left := len(lines) - firstLines - lastLines; left > 0 {
		lines = slices.Replace(lines, firstLines, firstLines+left, fmt.Sprintf("          … %d lines left out", left))
	}
	return strings.Join(append(lines, ""), "\n")
}

// Latest is the end of a timeline, for who wonders what takes so long.
func Latest(record *history.History) string {
	const latest = 20
	lines := timeline(record)
	return strings.Join(lines[max(0, len(lines)-latest):], "\n")
}

func timeline(record *history.History) (lines []string) {
	entries := record.Entries()
	for _, e := range entries {
		if text := line(e); text != "" {
			lines = append(lines, oneLine(fmt.Sprintf("%8.3fs  %s", e.Time.Sub(entries[0].Time).Seconds(), text)))
		}
	}
	return lines
}

// oneLine keeps a text to a line of bounded length.
func oneLine(text string) string {
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", " | ")
	if len(text) > maxLine {
		text = strings.ToValidUTF8(text[:maxLine], "") + "…"
	}
	return text
}

func line(e history.Entry) string {
	runner := fmt.Sprintf("runner %s", e.Runner)
	if e.Process > 1 {
		runner += fmt.Sprintf("#%d", e.Process)
	}
	switch {
	case e.Step != nil && e.Step.Error != "":
		return "--- FAILED " + stepText(e.Step) + ": " + e.Step.Error
	case e.Step != nil && !e.Step.Ended: // else the next step says it
		return "--- " + stepText(e.Step)
	case e.Output != "":
		return e.Output
	case e.Mark != "":
		return "mark " + e.Mark
	case e.Trouble != "":
		return "TROUBLE " + e.Trouble
	case e.Start:
		return runner + " is started"
	case e.Map != nil && e.Map.Deleted:
		return fmt.Sprintf("map %s deleted after version %s", e.Map.Name, e.Map.ResourceVersion)
	case e.Map != nil:
		return fmt.Sprintf("%s %q, version %s", e.Map.Name, e.Map.Data, e.Map.ResourceVersion)
	case e.Status != nil:
		return runner + ": " + (&view{runner: &history.Runner{Status: e.Status}}).describe(said)
	case e.Exit != nil:
		return fmt.Sprintf("%s exited with %d: %s", runner, e.Exit.Code, e.Exit.Message)
	case e.Note != nil && e.Note.Step > 0:
		return fmt.Sprintf("task %s has saved step %d", e.Note.Task, e.Note.Step)
	case e.Note != nil && e.Note.End:
		return fmt.Sprintf("task %s finished, start %d on %s", e.Note.Task, e.Note.Attempt, e.Note.Runner)
	case e.Note != nil:
		return fmt.Sprintf("task %s started, start %d on %s, GPUs %s", e.Note.Task, e.Note.Attempt, e.Note.Runner, word(e.Note.GPUs))
	case e.Queue != nil:
		return "queue: " + e.Queue.String()
	}
	return ""
}

func stepText(s *history.Step) string {
	return strings.TrimPrefix(fmt.Sprintf("line %d: %s", s.Line, s.Text), "line 0: ")
}
