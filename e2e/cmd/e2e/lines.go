package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/runner/api"
)

// tell tells what comes into the record of a scenario while that is played, to its
// end, or until nobody can look on.
func tell(ctx context.Context, out io.Writer, record *history.History, play func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	playing, end := context.WithCancel(ctx)
	group.Go(func() error {
		defer end()
		return play(ctx)
	})
	group.Go(func() error {
		told := make(map[string]string) // of each runner at last
		for read, ended := 0, false; !ended; {
			ended = record.Wait(playing, func(s *history.Summary) bool { return s.Entries > read }) != nil
			for _, e := range record.Entries()[read:] {
				read++
				text := line(e)
				if e.Status != nil {
					if text == told[e.Runner] {
						continue
					}
					told[e.Runner] = text
				}
				if _, err := io.WriteString(out, text); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return group.Wait()
}

// line is what an entry says, empty for nothing.
func line(e history.Entry) string {
	switch {
	case e.Output != "":
		return e.Output
	case e.Trouble != "":
		return e.Trouble + "\n"
	case e.Exit != nil:
		return fmt.Sprintf("%-9s exited with %d: %s\n", e.Runner, e.Exit.Code, e.Exit.Message)
	case e.Log != "":
		var log struct{ Msg, Address string }
		if json.Unmarshal([]byte(e.Log), &log) == nil && log.Msg == "serving" {
			return fmt.Sprintf("%-9s serves %s\n", e.Runner, log.Address)
		}
	case e.Status != nil:
		text := fmt.Sprintf("%-9s %s", e.Runner, state(e.Status))
		if e.Status.Phase == api.PhaseDraining {
			text += fmt.Sprintf(", %d running", e.Status.Tasks.Running)
		}
		for _, m := range []*api.MapStatus{e.Status.Maps.Global, e.Status.Maps.Node} {
			if m != nil && m.Problem != "" {
				text += fmt.Sprintf("\n%-9s ! %s", e.Runner, m.Problem)
			}
		}
		return text + "\n"
	}
	return ""
}

// state says what a runner does, and why.
func state(s *api.Status) string {
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
	if s.Why != "" {
		text += "; " + s.Why
	}
	return text
}
