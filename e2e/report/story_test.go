package report_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/report"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

func exit(code int) *targets.Exit { return &targets.Exit{Code: code, Message: "a sentence"} }

func TestStory(t *testing.T) {
	busy := &api.Status{Phase: api.PhaseDraining, Target: api.DrainAndSuspend, Effective: api.DrainAndSuspend, Source: api.SourceGlobal, Version: "v1"}
	busy.Tasks.Running = 1
	busy.GPUs = []api.GPU{{Index: 0, UUID: "G0", Task: "t-1", Health: api.Healthy}, {Index: 1, UUID: "G1", Health: api.Sick, HealthReason: "Xid 79"}}
	got := report.TellStory(clocked(
		history.Entry{Step: &history.Step{Text: "prepare"}},
		history.Entry{Map: &history.Map{Name: "m", ResourceVersion: "5", Data: map[string]string{"STATE": "DrainAndSuspend\n"}}},
		history.Entry{Runner: "a", Process: 1, Start: true},
		history.Entry{Step: &history.Step{Text: "prepare", Ended: true}},
		history.Entry{Note: &targets.TaskNote{Task: "t-1", Attempt: 1, Runner: "a"}},
		history.Entry{Runner: "a", Process: 1, Status: busy},
		history.Entry{Runner: "a", Process: 1, Status: busy}, // says nothing new
		history.Entry{Map: &history.Map{Name: "m", ResourceVersion: "6", Deleted: true}},
		history.Entry{Step: &history.Step{Line: 7, Text: `{"await":{"a":{"exit":0}}}`}},
		history.Entry{Step: &history.Step{Line: 7, Text: `{"await":{"a":{"exit":0}}}`, Ended: true, Error: "exit is 10"}},
		history.Entry{Runner: "a", Process: 1, Exit: exit(10)},
	))
	want := &report.Story{
		Start: got.Start, Length: 2500, Version: "v1",
		Wrong: &report.Wrong{At: 2250, Line: 7, Step: "await: {a: {exit: 0}}", Why: "exit is 10"},
		Lanes: []*report.Lane{
			{Name: "steps", Kind: report.Steps, Spans: []report.Span{{At: 0, To: 750, Text: "prepare"}, {At: 2000, To: 2250, Look: "wrong", Text: "await: {a: {exit: 0}}", More: "line 7"}}},
			{Name: "map m", Kind: report.Maps, Spans: []report.Span{{At: 250, Look: "suspended", Text: "DrainAndSuspend", More: "version 5"}, {At: 1750, Look: "absent", Text: "deleted", More: "version 6"}}},
			{Name: "runner a", Kind: report.State, Spans: []report.Span{
				{At: 500, Look: "unknown", Text: "started", More: "process 1"},
				{At: 1250, Look: "draining", Text: "Draining to DrainAndSuspend", More: "effective DrainAndSuspend, source global"},
				{At: 2500, Look: "gone", Text: "exit 10", More: "a sentence"},
			}},
			{Name: "tasks of a", Kind: report.Tasks, Spans: []report.Span{{At: 1000, Look: "busy", Text: "1", More: "0 finished"}}},
			{Name: "GPU 0 of a", Kind: report.GPUs, Spans: []report.Span{{At: 1250, Look: "busy", Text: "t-1", More: "G0"}}},
			{Name: "GPU 1 of a", Kind: report.GPUs, Spans: []report.Span{{At: 1250, Look: "wrong", Text: "Sick", More: "Xid 79"}}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want - got +\n%s", diff)
	}
}

// However much happened, a story has the beginning and the end, and few bytes.
func TestLongStory(t *testing.T) {
	var entries []history.Entry
	for i := range 10_000 {
		state := []string{"Running", "DrainAndSuspend"}[i%2]
		entries = append(entries, history.Entry{Map: &history.Map{Name: "m", Data: map[string]string{"STATE": state}}})
	}
	got := report.TellStory(clocked(entries...))
	spans := got.Lanes[0].Spans
	if spans[0].At != 0 || spans[len(spans)-1].At != 9999*250 || spans[60].Text != "9880 more changes" {
		t.Errorf("the story is from %+v over %+v to %+v", spans[0], spans[60], spans[len(spans)-1])
	}
	if text, err := json.Marshal(got); err != nil || len(text) > 16<<10 {
		t.Errorf("it has %d bytes, %v", len(text), err)
	}
}
