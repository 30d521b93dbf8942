package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// What changes is told once, in the order of the record, to the last.
func TestTell(t *testing.T) {
	const problem = `STATE is "Runing"; did you mean Running?`
	says := func(runner string, s api.Status) history.Entry { return history.Entry{Runner: runner, Status: &s} }
	runs := api.Status{Phase: api.PhaseRunning, Source: api.SourceGlobal, Effective: api.Running}
	busier := runs
	busier.Tasks.Running = 4
	drains := api.Status{
		Phase: api.PhaseDraining, Target: api.DrainAndTerminate, Source: api.SourceNode, Tasks: api.TaskCounts{Running: 2},
		Shadowed: &api.Shadowed{Source: api.SourceGlobal, Value: api.Running},
		Maps:     api.Maps{Global: &api.MapStatus{Problem: problem}},
	}
	left := drains
	left.Tasks.Running = 1
	record := history.New()
	var out bytes.Buffer
	err := tell(t.Context(), &out, record, func(context.Context) error {
		for _, e := range []history.Entry{
			{Runner: "runner-a", Log: `{"msg":"serving","address":"127.0.0.1:54321"}`}, says("runner-a", runs),
			says("runner-b", runs), {Runner: "runner-a", Log: "more"}, says("runner-a", busier),
			{Output: "$ kubectl get cm\n"}, says("runner-a", drains), says("runner-a", left),
			says("runner-b", busier), says("runner-a", runs),
			{Trouble: "a gap"}, {Runner: "runner-b", Exit: &targets.Exit{Message: "drained"}},
			{Output: "again\n"}, {Output: "again\n"},
		} {
			record.Add(e)
		}
		return io.ErrUnexpectedEOF
	})
	const want = `runner-a  serves 127.0.0.1:54321
runner-a  Running, source global, effective Running
runner-b  Running, source global, effective Running
$ kubectl get cm
runner-a  Draining to DrainAndTerminate, source node, shadowed Running, 2 running
runner-a  ! STATE is "Runing"; did you mean Running?
runner-a  Draining to DrainAndTerminate, source node, shadowed Running, 1 running
runner-a  ! STATE is "Runing"; did you mean Running?
runner-a  Running, source global, effective Running
a gap
runner-b  exited with 0: drained
again
again
`
	if diff := cmp.Diff(want, out.String()); diff != "" || err != io.ErrUnexpectedEOF {
		t.Errorf("%v, want - got +\n%s", err, diff)
	}
}

// gone is a terminal that is gone.
type gone struct{}

var errGone = errors.New("input/output error")

func (gone) Write([]byte) (int, error) { return 0, errGone }

// A terminal that is gone ends it, also where nobody sends a signal.
func TestTerminalIsGone(t *testing.T) {
	record := history.New()
	err := tell(t.Context(), gone{}, record, func(ctx context.Context) error {
		record.Add(history.Entry{Output: "a word\n"})
		<-ctx.Done()
		return nil
	})
	if err != errGone {
		t.Errorf("got %v", err)
	}
}
