package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// screen shows what the record of a scenario tells: texts in their order and, below
// them, a table of what is so now, drawn over itself. Where that cannot be done, as
// in a file, each change of a runner is a line.
type screen struct {
	out      io.Writer
	scenario scenario.Scenario
	record   *history.History
	queue    targets.Queue
	// size of the terminal, 0 if it is none on which a table can be drawn.
	size func() (columns, rows int)

	read      int // entries of the record
	height    int // lines of the table that stand above the cursor
	addresses map[string]string
	told      map[string]string
	contents  api.QueueContents
	looked    time.Time // into the queue
}

func newScreen(out io.Writer, s scenario.Scenario, record *history.History, queue targets.Queue) *screen {
	return &screen{out: out, scenario: s, record: record, queue: queue, size: sizeOf(out),
		addresses: make(map[string]string), told: make(map[string]string)}
}

// sizeOf looks at the terminal anew each time: people change its size.
func sizeOf(out io.Writer) func() (int, int) {
	return func() (int, int) {
		file, ok := out.(*os.File)
		if name := os.Getenv("TERM"); !ok || name == "" || name == "dumb" {
			return 0, 0
		}
		columns, rows, err := term.GetSize(int(file.Fd()))
		if err != nil {
			return 0, 0
		}
		return columns, rows
	}
}

// during shows what happens while do runs, and what has happened when it ends.
func (s *screen) during(ctx context.Context, do func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.follow(ctx)
	}()
	err := do()
	cancel()
	<-ended
	s.draw()
	return err
}

// follow draws whenever something has changed, until ctx ends.
func (s *screen) follow(ctx context.Context) {
	const (
		pace  = 200 * time.Millisecond // as fast as a person can follow
		still = time.Second            // between looks into the queue, which tells nothing by itself
	)
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for ctx.Err() == nil {
		if columns, _ := s.size(); columns > 0 && time.Since(s.looked) > still {
			s.looked = time.Now()
			if contents, err := s.queue.Queue(ctx); err == nil {
				s.contents = contents // else the last ones are still the best that is known
			}
		}
		s.draw()
		news, cancel := context.WithTimeout(ctx, still)
		_ = s.record.Wait(news, func(f *history.Facts) bool { return f.Entries > s.read })
		cancel()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// draw prints what is new in the record, and the table below it.
func (s *screen) draw() {
	columns, rows := s.size()
	var text strings.Builder
	if s.height > 0 {
		fmt.Fprintf(&text, "\r\x1b[%dA\x1b[J", s.height)
		s.height = 0
	}
	entries := s.record.Entries()
	for _, e := range entries[s.read:] {
		text.WriteString(s.tell(e, columns > 0))
	}
	s.read = len(entries)
	if columns > 0 {
		lines := s.table(min(columns, widest))
		lines = lines[:min(len(lines), max(rows-1, 0))]
		for _, line := range lines {
			text.WriteString(cut(line, columns) + "\n")
		}
		s.height = len(lines)
	}
	fmt.Fprint(s.out, text.String())
}

// tell is what a new entry says outside of the table, empty for nothing.
func (s *screen) tell(e history.Entry, drawn bool) string {
	switch {
	case e.Step != nil && !e.Step.Ended:
		return s.step(e.Step.Line)
	case e.Output != "":
		return strings.TrimSpace(e.Output) + "\n"
	case e.Trouble != "":
		return e.Trouble + "\n"
	case e.Exit != nil:
		return fmt.Sprintf("%s exited with %d: %s\n", e.Runner, e.Exit.Code, e.Exit.Message)
	case e.Log != "":
		var line struct{ Msg, Address string }
		if json.Unmarshal([]byte(e.Log), &line) == nil && line.Msg == "serving" {
			s.addresses[e.Runner] = line.Address
		}
	case e.Status != nil && !drawn:
		said := fmt.Sprintf("%-9s %s, %s\n", e.Runner, state(e.Status), source(e.Status))
		for _, problem := range problems(e.Status) {
			said += fmt.Sprintf("%-9s ! %s\n", e.Runner, problem)
		}
		if said != s.told[e.Runner] {
			s.told[e.Runner] = said
			return said
		}
	}
	return ""
}

// step is what a step says when it begins.
func (s *screen) step(line int) string {
	for _, step := range s.scenario.Steps {
		switch text := strings.TrimSpace(fmt.Sprint(step.Value)); {
		case step.Line != line:
		case step.Verb == "say":
			return "\n# " + strings.ReplaceAll(text, "\n", "\n# ") + "\n"
		case step.Verb == "kubectl":
			return "$ kubectl " + text + "\n"
		}
	}
	return ""
}

// widest is how many columns the table has at most. So it needs no other shape where
// a terminal is made narrower, and is not broken into more lines than were counted.
const widest = 60

// table is what is so now, a line each.
func (s *screen) table(width int) (lines []string) {
	const row = "%-9s %-30s %3v %5v %7v"
	lines = append(lines, fmt.Sprintf(row, "RUNNER", "STATE", "RUN", "DONE", "GPUS"))
	var wrong []string
	s.record.View(func(f *history.Facts) {
		for _, name := range slices.Sorted(maps.Keys(s.scenario.Runners)) {
			r := f.Runner(name)
			if r.Status == nil {
				lines = append(lines, fmt.Sprintf(row, name, "starting", "", "", ""), "")
				continue
			}
			is, busy := state(r.Status), 0
			for _, gpu := range r.Status.GPUs {
				if gpu.Task != "" {
					busy++
				}
			}
			if r.Exit != nil {
				is = fmt.Sprintf("exited with %d", r.Exit.Code)
			}
			gpus := fmt.Sprintf("%d of %d", busy, len(r.Status.GPUs))
			lines = append(lines, fmt.Sprintf(row, name, is, r.Status.Tasks.Running, r.Status.Tasks.Succeeded, gpus),
				fmt.Sprintf("  %s; %s", s.addresses[name], source(r.Status)))
			for _, problem := range problems(r.Status) {
				if !slices.Contains(wrong, problem) {
					wrong = append(wrong, problem)
				}
			}
		}
	})
	for _, problem := range wrong {
		lines = append(lines, wrap("! "+problem, width)...)
	}
	q := s.contents
	return append(lines, fmt.Sprintf("queue: %d ready, %d claimed, %d finished, %d dead", len(q.Ready), len(q.Claimed), len(q.Finished), len(q.Dead)))
}

// state is what a runner does.
func state(s *api.Status) string {
	if s.Target != api.Unset {
		return string(s.Phase) + " to " + string(s.Target)
	}
	return string(s.Phase)
}

// source is why a runner does that.
func source(s *api.Status) string {
	switch {
	case s.Source == "":
		return "no state yet"
	case s.Shadowed != nil:
		return fmt.Sprintf("%s, not %s %s", s.Source, s.Shadowed.Source, s.Shadowed.Value)
	}
	return string(s.Source)
}

// problems are what is wrong with a runner's maps.
func problems(s *api.Status) (all []string) {
	for _, m := range []*api.MapStatus{s.Maps.Global, s.Maps.Node} {
		if m != nil && m.Problem != "" {
			all = append(all, m.Problem)
		}
	}
	return all
}

// wrap breaks a text between words.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = "  " + word
			continue
		}
		line = strings.TrimLeft(line+" "+word, " ")
	}
	return append(lines, line)
}

// cut shortens a line to what fits.
func cut(line string, columns int) string {
	all := []rune(line)
	return string(all[:min(len(all), columns)])
}
