package history_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

func TestSummary(t *testing.T) {
	sum := history.NewSummary()
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
		sum.Apply(e)
	}
	want := &history.Runner{
		Processes: 2, Status: &api.Status{Phase: api.PhaseTerminated}, Exit: &targets.Exit{Code: 0, Message: "a sentence"},
		Transitions: 1, Log: []string{"first life"}, Started: 4, Finished: 1,
		Answers: map[string]history.Entry{"/livez": {Runner: "a", Answer: &history.Answer{Path: "/livez", Code: 200}}},
	}
	if diff := cmp.Diff(want, sum.Runner("a")); diff != "" {
		t.Errorf("runner, want - got +\n%s", diff)
	}
	for group, want := range map[string][2]int{"work": {3, 1}, "": {4, 1}, "work-more": {1, 0}, "wor": {0, 0}} {
		started, finished, _ := sum.Counts(group)
		if got := [2]int{started, finished}; got != want {
			t.Errorf("group %q: started and finished are %v, want %v", group, got, want)
		}
	}
	if m := sum.Maps["n/m"]; m.ResourceVersion != "2" || !m.Deleted {
		t.Errorf("map is %+v", m)
	}
	if sum.Queue == nil || sum.Step != step || len(sum.Troubles) != 1 || sum.Entries != 28 || sum.QueueTrouble != "hidden" {
		t.Errorf("summary is %+v", sum)
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
		if err := record.Wait(t.Context(), func(s *history.Summary) bool { return s.Task("t-1").Started >= want }); err != nil {
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
	err := history.New().Wait(ctx, func(*history.Summary) bool { return false })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
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
