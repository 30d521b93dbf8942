package engine_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// seconds are at the beginning of each line.
func lines(timeline string) []string {
	var all []string
	for line := range strings.Lines(timeline) {
		_, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "s  ")
		all = append(all, text)
	}
	return all
}

func TestTimeline(t *testing.T) {
	record := history.New()
	of := func(process int, e history.Entry) history.Entry {
		e.Runner, e.Process = "a", process
		return e
	}
	note := func(end bool) history.Entry {
		return history.Entry{Note: &targets.TaskNote{Task: "t-1", Attempt: 1, Runner: "a", End: end, GPUs: "G1"}}
	}
	busy := of(2, history.Entry{Status: &api.Status{Phase: api.PhaseDraining}})
	busy.Status.Target, busy.Status.Source, busy.Status.Effective = api.DrainAndSuspend, api.SourceGlobal, api.DrainAndSuspend
	busy.Status.Shadowed = &api.Shadowed{Source: api.SourceGlobal, Value: api.Running}
	busy.Status.Maps.Global = &api.MapStatus{Name: "m", ResourceVersion: "7", Problem: "cannot be read"}
	busy.Status.Tasks.Running = 2
	busy.Status.Reason = "waits for 2 tasks"
	for _, e := range []history.Entry{
		{Step: &history.Step{Text: "prepare"}}, {Step: &history.Step{Text: "prepare", Ended: true}},
		{Map: &history.Map{Name: "m", ResourceVersion: "5", Data: map[string]string{"STATE": "Run\nning", "x": "y"}}},
		{Map: &history.Map{Name: "m", ResourceVersion: "6"}},
		{Map: &history.Map{Name: "m", ResourceVersion: "6", Deleted: true}},
		of(1, history.Entry{Start: true}), of(2, history.Entry{Start: true}), busy, of(2, history.Entry{Log: "not here"}),
		of(2, history.Entry{Exit: &targets.Exit{Code: 10, Message: "a sentence"}}), {Mark: "here"}, note(false), note(true),
		{Queue: &targets.Contents{{State: api.TaskWaiting}, {ID: "t-1", State: api.TaskFinished}}}, {Trouble: "a gap"},
		{Step: &history.Step{Line: 7, Text: "await a", Ended: true, Error: "phase is\n" + strings.Repeat("x", 1000)}},
	} {
		record.Add(e)
	}
	want := []string{
		"--- prepare",
		`m map["STATE":"Run\nning" "x":"y"], version 5`,
		"m map[], version 6",
		"map m deleted after version 6",
		"runner a is started",
		"runner a#2 is started",
		"runner a#2: phase Draining, effective DrainAndSuspend, target DrainAndSuspend, source global, shadowed Running, reason waits for 2 tasks, problem cannot be read, running 2, busy true",
		"runner a#2 exited with 10: a sentence",
		"mark here",
		"task t-1 started, start 1 on a, GPUs G1",
		"task t-1 finished, start 1 on a",
		"queue: 1 waiting, 0 running, 1 finished, 0 dead",
		"TROUBLE a gap",
	}
	got := lines(engine.Timeline(record))
	last := got[len(got)-1]
	if diff := cmp.Diff(want, got[:len(got)-1]); diff != "" {
		t.Errorf("timeline, want - got +\n%s", diff)
	}
	if !strings.HasPrefix(last, "--- FAILED line 7: await a: phase is | xxx") || !strings.HasSuffix(last, "…") || len(last) > 450 {
		t.Errorf("last line is %q", last)
	}
}

// However much happened, the timeline has the beginning and the end.
func TestLongTimeline(t *testing.T) {
	record := history.New()
	record.Add(history.Entry{Mark: "first"})
	for range 10_000 {
		record.Add(history.Entry{Runner: "a", Process: 1, Start: true})
	}
	record.Add(history.Entry{Mark: "last"})
	got := lines(engine.Timeline(record))
	if got[0] != "mark first" || got[len(got)-1] != "mark last" || len(got) != 2001 {
		t.Errorf("%d lines, from %q to %q", len(got), got[0], got[len(got)-1])
	}
	if !strings.Contains(engine.Timeline(record), "… 8002 lines left out") {
		t.Error("it does not say what is left out")
	}
	if got := lines(engine.Latest(record)); len(got) != 20 || got[18] != "runner a is started" || got[19] != "mark last" {
		t.Errorf("the latest are %q", got)
	}
}
