package engine_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// busy is a status in which each field differs from its zero value.
func busy() *api.Status {
	return &api.Status{
		Phase: api.PhaseDraining, Effective: api.DrainAndSuspend, Target: api.DrainAndSuspend, Source: api.SourceNode,
		Reason: "waits for 2 tasks", Shadowed: &api.Shadowed{Source: api.SourceGlobal, Value: api.Running},
		Maps: api.Maps{
			Global: &api.MapStatus{Name: api.GlobalMapName, ResourceVersion: "20", Problem: "cannot be read"},
			Node:   &api.MapStatus{Name: "a", ResourceVersion: "30"},
		},
		Tasks: api.TaskCounts{Running: 2, Waiting: 1},
		GPUs:  []api.GPU{{UUID: "GPU-1", Task: "t-1"}, {UUID: "GPU-2"}, {UUID: "GPU-3", Task: "t-2"}},
	}
}

// busyRecord is a record with something for each condition: runner a is busy,
// runner b has exited, runner c was never started.
func busyRecord() *history.History {
	record := history.New()
	note := func(task, runner string, end bool) {
		record.Add(history.Entry{Note: &targets.TaskNote{Task: task, Attempt: 1, Runner: runner, End: end}})
	}
	record.Add(history.Entry{Runner: "a", Process: 1, Start: true})
	record.Add(history.Entry{Runner: "a", Process: 1, Status: &api.Status{Phase: api.PhaseRunning}})
	record.Add(history.Entry{Runner: "a", Process: 1, Log: "a line"})
	note("t-1", "a", false)
	note("t-2", "a", false)
	note("t-2", "a", true)
	note("u-1", "b", false)
	record.Add(history.Entry{Runner: "a", Process: 1, Status: busy()})
	record.Add(history.Entry{Map: &history.Map{Namespace: "here", Name: api.GlobalMapName, ResourceVersion: "20"}})
	record.Add(history.Entry{Map: &history.Map{Namespace: "here", Name: "a", ResourceVersion: "30"}})
	record.Add(history.Entry{Map: &history.Map{Namespace: "here", Name: "unrelated", ResourceVersion: "99"}})
	record.Add(history.Entry{Runner: "b", Process: 1, Start: true})
	record.Add(history.Entry{Runner: "b", Process: 1, Status: &api.Status{Phase: api.PhaseTerminated}})
	record.Add(history.Entry{Runner: "b", Process: 1, Exit: &targets.Exit{Code: 0, Message: "drained"}})
	return record
}

func TestConditions(t *testing.T) {
	const gone = "b: it has exited with 0 (drained), so this will not come any more"
	tests := []struct {
		met, unmet string
		wrong      string
		hopeless   string
	}{
		{"a: {phase: Draining}", "a: {phase: Suspended}", "phase is Draining, want Suspended", ""},
		{"a: {effective: DrainAndSuspend}", "a: {effective: none}", "effective is DrainAndSuspend, want none", ""},
		{"b: {effective: none}", "b: {effective: Running}", "effective is none, want Running", gone},
		{"a: {target: DrainAndSuspend}", "a: {target: DrainAndTerminate}", "target is DrainAndSuspend, want DrainAndTerminate", ""},
		{"a: {source: node}", "a: {source: global}", "source is node, want global", ""},
		{"a: {shadowed: Running}", "a: {shadowed: none}", "shadowed is Running, want none", ""},
		{"b: {shadowed: none}", "b: {shadowed: Running}", "shadowed is none, want Running", gone},
		{"a: {running: 2}", "a: {running: 0}", "running is 2, want 0", ""},
		{"a: {waiting: 1}", "a: {waiting: 0}", "waiting is 1, want 0", ""},
		{"a: {gpus: 3}", "a: {gpus: 4}", "gpus is 3, want 4", ""},
		{"a: {gpusBusy: 2}", "a: {gpusBusy: 1}", "gpusBusy is 2, want 1", ""},
		{"a: {problem: cannot be}", "a: {problem: grant}", `problem does not say "grant": cannot be read`, ""},
		{"a: {reason: 2 tasks}", "a: {reason: 1 task}", `reason does not say "1 task": waits for 2 tasks`, ""},
		{"a: {seen: true}", "a: {seen: false}", "it has seen the newest maps, want that it has not", ""},
		{"a: {live: true}", "a: {live: false}", "/livez succeeds is true, want false", ""},
		{"a: {ready: false}", "a: {ready: true}", "/readyz succeeds is false, want true", ""},
		{"a: {log: line}", "a: {log: other}", `no log line says "other"`, ""},
		{"b: {exit: 0}", "b: {exit: 10}", "exit code is 0, want 10", gone},
		{"a: {processes: 1}", "a: {exit: 0}", "it has not exited, want exit code 0", ""},
		{"c: {processes: 0}", "a: {processes: 2}", "processes is 1, want 2", "a: only steps start processes"},
		{"a: {transitions: 1}", "a: {transitions: 0}", "transitions is 1, want 0", ""},
		{"a: {started: 2}", "a: {started: 3}", "started is 2, want 3", ""},
		{"a: {finished: 1}", "a: {finished: 0}", "finished is 1, want 0", "a: finished never gets smaller"},
		// The tasks' notes may still come after the exit.
		{"b: {started: 1}", "b: {finished: 1}", "finished is 0, want 1", ""},
		{"b: {phase: Terminated}", "b: {phase: Suspended}", "phase is Terminated, want Suspended", gone},
		{"c: {started: 0}", "c: {phase: Running}", "it has not reported anything yet", ""},
		{"tasks: {started: 3}", "tasks: {started: 2}", "started is 3, want 2", "tasks: started never gets smaller"},
		{"tasks/t: {started: 2}", "tasks/u: {finished: 1}", "finished is 0, want 1", ""},
		{"tasks: {left: 3}", "tasks: {left: 0}", "left is 3, want 0", ""},
		{"tasks/t: {left: 2}", "tasks/t: {left: 3}", "left is 2, want 3", ""},
		{"tasks/t: {queued: 1}", "tasks/t: {queued: 2}", "queued is 1, want 2", ""},
		{"tasks/u: {dead: 1}", "tasks/t: {dead: 1}", "dead is 0, want 1", ""},
	}
	queue := &api.QueueContents{
		Ready:   []api.QueuedTask{{ID: "t-1"}, {ID: "t-more-1"}},
		Claimed: []api.QueuedTask{{ID: "t-2"}},
		Dead:    []api.DeadLetter{{Task: &api.Task{ID: "u-1"}}, {Document: "no task"}},
	}
	probes := map[string]bool{"a/livez": true, "a/readyz": false}
	runners := map[string]targets.Runner{"a": &fakeRunner{name: "a"}}
	env, record := &fakeEnv{t: t}, busyRecord()
	judge := func(text string) ([]string, string) {
		var that map[string]scenario.Condition
		if err := yaml.UnmarshalStrict([]byte("{"+text+"}"), &that); err != nil {
			t.Fatal(err)
		}
		return engine.Judge(env, runners, record, that, queue, probes)
	}
	for _, tt := range tests {
		t.Run(tt.unmet, func(t *testing.T) {
			if wrong, _ := judge(tt.met); wrong != nil {
				t.Errorf("{%s} is said not to hold: %q", tt.met, wrong)
			}
			wrong, hopeless := judge(tt.unmet)
			if diff := cmp.Diff([]string{tt.wrong}, wrong); diff != "" {
				t.Errorf("what is wrong, want - got +\n%s", diff)
			}
			if hopeless != tt.hopeless {
				t.Errorf("hopeless is %q, want %q", hopeless, tt.hopeless)
			}
		})
	}
}

// A runner has seen its maps when it has the newest version of each, compared
// as numbers; a map that never was need not be seen.
func TestSeen(t *testing.T) {
	entry := func(name, version string, missed bool) history.Entry {
		return history.Entry{Map: &history.Map{Namespace: "here", Name: name, ResourceVersion: version, Deleted: missed, Missed: missed}}
	}
	tests := []struct {
		name         string
		maps         []history.Entry
		global, node string // what the runner says, "-" for not watched
		want         string
	}{
		{name: "no maps", global: "-", node: "-"},
		{name: "the same", maps: []history.Entry{entry(api.GlobalMapName, "9", false)}, global: "9", node: "-"},
		{name: "a newer one", maps: []history.Entry{entry(api.GlobalMapName, "9", false)}, global: "10", node: ""},
		{name: "an older one", maps: []history.Entry{entry(api.GlobalMapName, "10", false)}, global: "9",
			want: "it has not seen the newest maps: studioml-go-runner is at version 10, the runner saw 9"},
		{name: "nothing", maps: []history.Entry{entry(api.GlobalMapName, "10", false)}, global: "-",
			want: "it has not seen the newest maps: studioml-go-runner is at version 10, the runner saw none"},
		{name: "the node map", maps: []history.Entry{entry(api.GlobalMapName, "10", false), entry("a", "11", false)}, global: "12", node: "10",
			want: "it has not seen the newest maps: a is at version 11, the runner saw 10"},
		{name: "a missed deletion", maps: []history.Entry{entry(api.GlobalMapName, "10", true)}, global: "10",
			want: "it has not seen the newest maps: studioml-go-runner is at version 10, the runner saw 10"},
		{name: "a missed deletion that it saw", maps: []history.Entry{entry(api.GlobalMapName, "10", true)}, global: "11"},
		{name: "another runner's map", maps: []history.Entry{entry("b", "10", false)}, global: "", node: ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			record := history.New()
			for _, e := range tt.maps {
				record.Add(e)
			}
			s := &api.Status{}
			if tt.global != "-" {
				s.Maps.Global = &api.MapStatus{ResourceVersion: tt.global}
			}
			if tt.node != "-" {
				s.Maps.Node = &api.MapStatus{ResourceVersion: tt.node}
			}
			record.Add(history.Entry{Runner: "a", Process: 1, Start: true})
			record.Add(history.Entry{Runner: "a", Process: 1, Status: s})
			that := map[string]scenario.Condition{"a": {Seen: new(true)}}
			wrong, _ := engine.Judge(&fakeEnv{t: t}, map[string]targets.Runner{"a": &fakeRunner{name: "a"}}, record, that, nil, nil)
			var want []string
			if tt.want != "" {
				want = []string{tt.want}
			}
			if diff := cmp.Diff(want, wrong); diff != "" {
				t.Errorf("want - got +\n%s", diff)
			}
		})
	}
}
