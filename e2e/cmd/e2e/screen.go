package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// screen shows what the record of a scenario tells: texts in their order, what runners
// say is wrong with their maps and, below them, a table of what is so now, drawn over
// itself. Where that cannot be done, as in a file, each change of a runner is a line.
type screen struct {
	out      io.Writer
	scenario scenario.Scenario
	record   *history.History
	env      targets.Env

	read      int // entries of the record
	height    int // lines of the table, which stand above the cursor
	addresses map[string]string
	told      map[string]string
	queue     targets.Contents
}

// during plays the scenario and shows it, to its end, or to that of the terminal.
func (s *screen) during(ctx context.Context, play func(context.Context, targets.Env, scenario.Scenario, *history.History) error) error {
	s.addresses, s.told = make(map[string]string), make(map[string]string)
	group, ctx := errgroup.WithContext(ctx) // which ends when nobody can look on
	shown, end := context.WithCancel(ctx)
	group.Go(func() error { return s.follow(shown) })
	group.Go(func() error {
		defer end()
		return play(ctx, s.env, s.scenario, s.record)
	})
	return errors.Join(group.Wait(), s.draw())
}

// follow draws what has changed, again and again, until ctx ends.
func (s *screen) follow(ctx context.Context) error {
	const pace = 400 * time.Millisecond // as fast as a person can follow
	for tick := time.Tick(pace); ctx.Err() == nil; {
		if contents, err := s.env.Queue(ctx); err == nil {
			s.queue = contents // else what was read before is the best that is known
		}
		if err := s.draw(); err != nil {
			return err
		}
		select {
		case <-tick:
		case <-ctx.Done():
		}
	}
	return nil
}

// size is that of a terminal, 0 if it is none that can be drawn on. People change it.
func size(out io.Writer) (columns, rows int) {
	file, ok := out.(*os.File)
	if name := os.Getenv("TERM"); !ok || name == "" || name == "dumb" {
		return 0, 0
	}
	columns, rows, _ = term.GetSize(int(file.Fd())) // an error gives 0
	return columns, rows
}

// draw prints what is new in the record, and the table below it.
func (s *screen) draw() error {
	columns, rows := size(s.out)
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
		lines := s.table()
		s.height = min(len(lines), max(rows-1, 0))
		for _, line := range lines[:s.height] {
			fmt.Fprintf(&text, "%.*s\n", min(columns, widest), line) // which counts runes
		}
	}
	_, err := fmt.Fprint(s.out, text.String())
	return err
}

// tell is what a new entry says outside of the table, empty for nothing.
func (s *screen) tell(e history.Entry, drawn bool) string {
	switch {
	case e.Output != "":
		return e.Output
	case e.Trouble != "":
		return e.Trouble + "\n"
	case e.Exit != nil:
		return fmt.Sprintf("%s exited with %d: %s\n", e.Runner, e.Exit.Code, e.Exit.Message)
	case e.Log != "":
		var line struct{ Msg, Address string }
		if json.Unmarshal([]byte(e.Log), &line) == nil && line.Msg == "serving" {
			s.addresses[e.Runner] = line.Address
		}
	case e.Status != nil:
		said := ""
		if !drawn {
			said = fmt.Sprintf("%-9s %s; %s\n", e.Runner, state(e.Status), source(e.Status))
		}
		for _, m := range []*api.MapStatus{e.Status.Maps.Global, e.Status.Maps.Node} {
			if m != nil && m.Problem != "" {
				said += fmt.Sprintf("%-9s ! %s\n", e.Runner, m.Problem)
			}
		}
		if said != s.told[e.Runner] {
			s.told[e.Runner] = said
			return said
		}
	}
	return ""
}

// widest is how many columns the table has at most. So a terminal that has them can
// be made wider and narrower, and never breaks a line into more than were counted.
const widest = 60

// table is what is so now.
func (s *screen) table() []string {
	const row = "%-9s %-30s %3v %5v %7v"
	lines := []string{fmt.Sprintf(row, "RUNNER", "STATE", "RUN", "DONE", "GPUS")}
	s.record.View(func(f *history.Facts) {
		for _, name := range slices.Sorted(maps.Keys(s.scenario.Runners)) {
			r := f.Runner(name)
			if r.Status == nil {
				lines = append(lines, name+" starts")
				continue
			}
			is, busy := state(r.Status), 0
			if r.Exit != nil {
				is = fmt.Sprintf("exited with %d", r.Exit.Code)
			}
			for _, gpu := range r.Status.GPUs {
				if gpu.Task != "" {
					busy++
				}
			}
			lines = append(lines,
				fmt.Sprintf(row, name, is, r.Status.Tasks.Running, r.Status.Tasks.Succeeded, fmt.Sprintf("%d of %d", busy, len(r.Status.GPUs))),
				fmt.Sprintf("  %s; %s", s.addresses[name], source(r.Status)))
		}
	})
	return append(lines, "queue: "+s.queue.String())
}

// state is what a runner does, and where to.
func state(s *api.Status) string {
	return strings.TrimSuffix(fmt.Sprintf("%s to %s", s.Phase, s.Target), " to ")
}

// source is why a runner does that.
func source(s *api.Status) string {
	if s.Shadowed != nil {
		return fmt.Sprintf("%s, shadows %s %s", s.Source, s.Shadowed.Source, s.Shadowed.Value)
	}
	return cmp.Or(string(s.Source), "no state yet")
}
