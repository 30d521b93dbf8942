package history_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

func start(process int) history.Entry {
	return history.Entry{Runner: "a", Process: process, Start: true}
}

func status(process int, phase api.Phase) history.Entry {
	return history.Entry{Runner: "a", Process: process, Status: &api.Status{Phase: phase}}
}

func exit(process, code int) history.Entry {
	return history.Entry{Runner: "a", Process: process, Exit: &targets.Exit{Code: code, Message: "a sentence"}}
}

func note(task string, attempt int, end bool) history.Entry {
	return history.Entry{Note: &targets.TaskNote{Task: task, Attempt: attempt, Runner: "a", End: end, GPUs: "G1"}}
}

func TestFacts(t *testing.T) {
	facts := history.NewFacts()
	step := &history.Step{Line: 3, Text: "await"}
	for _, e := range []history.Entry{
		start(1), {Runner: "a", Answer: &history.Answer{Path: "/readyz"}}, status(1, api.PhaseUnknown), status(1, api.PhaseRunning), status(1, api.PhaseRunning),
		{Runner: "a", Process: 1, Log: "first life"}, exit(1, 10),
		start(2), status(1, api.PhaseSuspended), status(2, api.PhaseRunning), status(2, api.PhaseTerminated), exit(1, 11), exit(2, 0),
		note("work-1", 1, false), note("work-2", 1, false), note("work-1", 2, false), note("work-1", 1, true), note("work-more-1", 1, false),
		{Map: &history.Map{Namespace: "n", Name: "m", ResourceVersion: "1"}},
		{Map: &history.Map{Namespace: "n", Name: "m", ResourceVersion: "2", Deleted: true}},
		{Queue: &targets.Contents{{ID: "x", State: api.TaskFinished}}},
		{Trouble: "a gap"}, {Mark: "here"}, {Answer: &history.Answer{Error: "hidden"}},
		{Runner: "a", Answer: &history.Answer{Path: "/livez", Code: 200}},
		{Step: &history.Step{Text: "before"}}, {Step: &history.Step{Text: "before", Ended: true}}, {Step: step},
	} {
		facts.Apply(e)
	}
	want := &history.Runner{
		Processes: 2, Status: &api.Status{Phase: api.PhaseTerminated}, Exit: &targets.Exit{Code: 0, Message: "a sentence"},
		Transitions: 1, Log: []string{"first life"}, Started: 4, Finished: 1,
		Answers: map[string]history.Entry{"/livez": {Runner: "a", Answer: &history.Answer{Path: "/livez", Code: 200}}},
	}
	if diff := cmp.Diff(want, facts.Runner("a")); diff != "" {
		t.Errorf("runner, want - got +\n%s", diff)
	}
	for group, want := range map[string][2]int{"work": {3, 1}, "": {4, 1}, "work-more": {1, 0}, "wor": {0, 0}} {
		started, finished := facts.Counts(group)
		if got := [2]int{started, finished}; got != want {
			t.Errorf("group %q: started and finished are %v, want %v", group, got, want)
		}
	}
	if m := facts.Maps["n/m"]; m.ResourceVersion != "2" || !m.Deleted {
		t.Errorf("map is %+v", m)
	}
	if facts.Queue == nil || facts.Step != step || len(facts.Troubles) != 1 || facts.Entries != 28 || facts.QueueTrouble != "hidden" {
		t.Errorf("facts are %+v", facts)
	}
}

// Wait sees every entry, from any number of writers.
func TestWait(t *testing.T) {
	const writers, each = 8, 50
	record := history.New()
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				record.Add(note("t-1", 1, false))
			}
		})
	}
	for _, want := range []int{1, writers * each / 2, writers * each} {
		if err := record.Wait(t.Context(), func(f *history.Facts) bool { return f.Task("t-1").Started >= want }); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
	for i, e := range record.Entries() {
		if e.Sequence != i+1 || e.Time.IsZero() {
			t.Fatalf("entry %d is number %d of %s", i, e.Sequence, e.Time)
		}
	}
}

func TestWaitEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err := history.New().Wait(ctx, func(*history.Facts) bool { return false })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

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
	busy := status(2, api.PhaseDraining)
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
		start(1), start(2), busy, {Runner: "a", Process: 2, Log: "not here"}, exit(2, 10), {Mark: "here"},
		note("t-1", 1, false), note("t-1", 1, true),
		{Queue: &targets.Contents{{State: api.TaskWaiting}, {ID: "t-1", State: api.TaskFinished}}}, {Trouble: "a gap"},
		{Step: &history.Step{Line: 7, Text: "await a", Ended: true, Error: "phase is\n" + strings.Repeat("x", 1000)}},
	} {
		record.Add(e)
	}
	want := []string{
		"--- prepare",
		`map m STATE="Run\nning" x="y", version 5`,
		"map m no STATE, version 6",
		"map m deleted after version 6",
		"runner a is started",
		"runner a#2 is started",
		"runner a#2 Draining to DrainAndSuspend, source global, effective DrainAndSuspend, shadowed Running, 2 running, 0 waiting, m@7 (cannot be read); waits for 2 tasks",
		"runner a#2 exited with 10: a sentence",
		"mark here",
		"task t-1 started, start 1 on a, GPUs G1",
		"task t-1 finished, start 1 on a, GPUs G1",
		"queue: 1 waiting, 0 running, 1 finished, 0 dead",
		"TROUBLE a gap",
	}
	got := lines(record.Timeline())
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
		record.Add(start(1))
	}
	record.Add(history.Entry{Mark: "last"})
	got := lines(record.Timeline())
	if got[0] != "mark first" || got[len(got)-1] != "mark last" || len(got) != 2001 {
		t.Errorf("%d lines, from %q to %q", len(got), got[0], got[len(got)-1])
	}
	if !strings.Contains(record.Timeline(), "… 8002 lines left out") {
		t.Error("it does not say what is left out")
	}
}

func TestJSON(t *testing.T) {
	record := history.New()
	record.Add(start(1))
	record.Add(note("t-1", 1, true))
	var text bytes.Buffer
	if err := record.WriteJSON(&text); err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(&text)
	for _, want := range record.Entries() {
		var got history.Entry
		if err := decoder.Decode(&got); err != nil {
			t.Fatal(err)
		}
		got.Time, want.Time = time.Time{}, time.Time{}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("want - got +\n%s", diff)
		}
	}
}

func TestSummary(t *testing.T) {
	record := history.New()
	record.Add(history.Entry{Step: &history.Step{Line: 7, Text: `{"await":{}}`}})
	record.Add(start(1))
	record.Add(status(1, api.PhaseRunning))
	record.Add(note("t-1", 1, false))
	got := record.Summary()
	for _, want := range []string{`--- line 7: {"await":{}}, since `, "\nrunner a: Running, 0 running, 0 waiting\n", "\ntasks: 1 started, 0 finished"} {
		if !strings.Contains(got, want) {
			t.Errorf("summary does not say %q:\n%s", want, got)
		}
	}
}
