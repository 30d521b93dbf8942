package engine_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
		Reason: "waits for 2 tasks", Why: "a new kernel", DrainDeadline: "30m", Shadowed: &api.Shadowed{Source: api.SourceGlobal, Value: api.Running},
		Maps: api.Maps{
			Global: &api.MapStatus{Name: api.GlobalMapName, Readable: true, ResourceVersion: "20", Problem: "cannot be read"},
			Node:   &api.MapStatus{Name: "a", Readable: true, ResourceVersion: "30"},
		},
		Tasks: api.TaskCounts{Running: 2, Waiting: 1, MachineFailed: 4},
		GPUs:  []api.GPU{{UUID: "GPU-1", Task: "t-1"}, {UUID: "GPU-2", Health: api.Sick, HealthReason: "it fell off"}, {UUID: "GPU-3", Task: "t-2", Health: api.Retiring, HealthReason: "it is old"}},
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
	for _, step := range []int{1, 2, 2} {
		record.Add(history.Entry{Note: &targets.TaskNote{Task: "t-1", Attempt: 1, Runner: "a", Step: step}})
	}
	record.Add(history.Entry{Runner: "a", Process: 1, Status: busy()})
	record.Add(history.Entry{Map: &history.Map{Namespace: "here", Name: api.GlobalMapName, ResourceVersion: "20"}})
	record.Add(history.Entry{Map: &history.Map{Namespace: "here", Name: "a", ResourceVersion: "30"}})
	record.Add(history.Entry{Map: &history.Map{Namespace: "here", Name: "unrelated", ResourceVersion: "99"}})
	record.Add(history.Entry{Runner: "b", Process: 1, Start: true})
	record.Add(history.Entry{Runner: "b", Process: 1, Status: &api.Status{Phase: api.PhaseTerminated}})
	record.Add(history.Entry{Runner: "b", Process: 1, Exit: &targets.Exit{Code: 0, Message: "drained"}})
	return record
}

// conditions reads conditions as they stand in a file.
func conditions(t *testing.T, text string) scenario.Conditions {
	t.Helper()
	all, err := engine.Format.Parse("x/y.yaml", []byte("name: x\nrows: [1]\ntargets: [embedded]\nrunners: {a: {}, b: {}, c: {}}\n"+
		"tasks: [{group: t}, {group: u}]\nsteps:\n  - mark: then\n  - expect: {"+text+"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	return all[0].Steps[1].Value.(scenario.Conditions)
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
		{"a: {busy: true}", "a: {busy: false}", "busy is true, want false", ""},
		{"a: {waiting: 1}", "a: {waiting: 0}", "waiting is 1, want 0", ""},
		{"a: {gpus: 3}", "a: {gpus: 4}", "gpus is 3, want 4", ""},
		{"a: {gpusBusy: 2}", "a: {gpusBusy: 1}", "gpusBusy is 2, want 1", ""},
		{"a: {problem: cannot be}", "a: {problem: grant}", `problem does not say "grant": cannot be read`, ""},
		{"a: {why: new kernel}", "a: {why: old}", `why does not say "old": a new kernel`, ""},
		{"a: {drainDeadline: 30m}", "a: {drainDeadline: 1h}", `drainDeadline is 30m, want 1h`, ""},
		{"a: {reason: 2 tasks}", "a: {reason: 1 task}", `reason does not say "1 task": waits for 2 tasks`, ""},
		{"a: {seen: true}", "a: {seen: false}", "seen is true, want false", ""},
		{"a: {live: true}", "a: {live: false}", "live is true, want false (ok)", ""},
		{"a: {ready: false}", "a: {ready: true}", "ready is false, want true", ""},
		{"a: {log: line}", "a: {log: other}", `log does not say "other": 1 lines`, ""},
		{"b: {exit: 0}", "b: {exit: 10}", "exit is 0, want 10 (drained)", gone},
		{"a: {processes: 1}", "a: {exit: 0}", "exit is not known: it has not exited", ""},
		{"c: {processes: 0}", "a: {processes: 2}", "processes is 1, want 2", ""},
		{"a: {processes: 1}", "a: {processes: 0}", "processes is 1, want 0", "a: processes never gets smaller"},
		{"a: {readable: true}", "a: {readable: false}", "readable is true, want false", ""},
		{"a: {gpusSick: 1}", "a: {gpusSick: 0}", "gpusSick is 1, want 0", ""},
		{"a: {gpusRetiring: 1}", "a: {gpusRetiring: 2}", "gpusRetiring is 1, want 2", ""},
		{"a: {gpuReason: fell off}", "a: {gpuReason: bus 2}", `gpuReason does not say "bus 2": it fell off; it is old`, ""},
		{"a: {machineFailed: 4}", "a: {machineFailed: 5}", "machineFailed is 4, want 5", ""},
		{"a: {heard: 61m}", "b: {heard: 1m}", "heard is not known: it was not started", gone},
		{"a: {fd: {since: then, most: 2}}", "a: {fd: {since: then, most: 1}}", "fd is 12, which is 2 more than at then, want at most 1", ""},
		{"a: {goroutines: {since: then, most: 0}}", "b: {goroutines: {since: then, most: 0}}", "goroutines is not known: it was not started", gone},
		{"a+b: {started: 3}", "a+b: {started: 4}", "started is 3, want 4", ""},
		{"runners: {processes: 2}", "runners: {running: 2}", "running is not known: c: it has not reported anything yet", ""},
		{"a: {transitions: 1}", "a: {transitions: 0}", "transitions is 1, want 0", ""},
		{"a: {started: 2}", "a: {started: 3}", "started is 2, want 3", ""},
		{"a: {finished: 1}", "a: {finished: 0}", "finished is 1, want 0", "a: finished never gets smaller"},
		// The tasks' notes may still come after the exit.
		{"b: {started: 1}", "b: {finished: 1}", "finished is 0, want 1", ""},
		{"b: {phase: Terminated}", "b: {phase: Suspended}", "phase is Terminated, want Suspended", gone},
		{"c: {started: 0}", "c: {phase: Running}", "phase is not known: it has not reported anything yet", ""},
		{"tasks: {started: 3}", "tasks: {started: 2}", "started is 3, want 2", "tasks: started never gets smaller"},
		{"tasks/t: {started: 2}", "tasks/u: {finished: 1}", "finished is 0, want 1", ""},
		{"tasks: {left: 3}", "tasks: {left: 0}", "left is 3, want 0", ""},
		{"tasks/t: {left: 2}", "tasks/t: {left: 3}", "left is 2, want 3", ""},
		{"tasks/t: {queued: 1}", "tasks/t: {queued: 2}", "queued is 1, want 2", ""},
		{"tasks: {cancelled: 1}", "tasks/t: {cancelled: 1}", "cancelled is 0, want 1", ""},
		{"tasks/t: {steps: 1}", "tasks/t: {steps: 3}", "steps is 2, want at least 3", ""},
		{"tasks/u: {dead: 1}", "tasks/t: {dead: 1}", "dead is 0, want 1", ""},
	}
	queue := &targets.Contents{
		{ID: "t-1", State: api.TaskWaiting}, {ID: "t-more-1", State: api.TaskWaiting}, {ID: "t-2", State: api.TaskRunning},
		{ID: "u-1", State: api.TaskDead, Task: &api.Task{}}, {ID: "no task", State: api.TaskDead}, {ID: "u-2", State: api.TaskCancelled},
	}
	metrics := func(fd, goroutines int) string {
		return fmt.Sprintf("# TYPE go_goroutines gauge\ngo_goroutines %d\nprocess_open_fds %d\n", goroutines, fd)
	}
	heard, err := json.Marshal(api.Status{Heard: time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	bodies := map[string]string{"a/livez": "ok", "a/readyz": "", "a/metrics": metrics(12, 30), "a/statusz": string(heard)}
	env, record := &fakeEnv{t: t}, busyRecord()
	judge := func(text string) ([]string, string) {
		return engine.Judge(env, record, conditions(t, text), queue, bodies, map[string]string{"a/metrics": metrics(10, 31)})
	}
	asked := map[string]bool{}
	for _, tt := range tests {
		for _, condition := range conditions(t, tt.met) {
			for name := range condition {
				asked[name] = true
			}
		}
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
	for _, name := range engine.Facts() {
		if !asked[name] {
			t.Errorf("no case here judges %s", name)
		}
	}
}

// A runner has seen its maps when it has the newest version of each, compared
// as numbers; a map that never was need not be seen.
func TestSeen(t *testing.T) {
	entry := func(name, version string, deleted bool) history.Entry {
		return history.Entry{Map: &history.Map{Namespace: "here", Name: name, ResourceVersion: version, Deleted: deleted}}
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
			want: "seen is false, want true (studioml-go-runner is at version 10, the runner saw 9)"},
		{name: "nothing", maps: []history.Entry{entry(api.GlobalMapName, "10", false)}, global: "-",
			want: "seen is false, want true (studioml-go-runner is at version 10, the runner saw none)"},
		{name: "the node map", maps: []history.Entry{entry(api.GlobalMapName, "10", false), entry("a", "11", false)}, global: "12", node: "10",
			want: "seen is false, want true (a is at version 11, the runner saw 10)"},
		{name: "a deletion", maps: []history.Entry{entry(api.GlobalMapName, "10", true)}, global: "10",
			want: "seen is false, want true (studioml-go-runner is at version 10, the runner saw 10)"},
		{name: "a deletion that it saw", maps: []history.Entry{entry(api.GlobalMapName, "10", true)}, global: "11"},
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
			wrong, _ := engine.Judge(&fakeEnv{t: t}, record, conditions(t, "a: {seen: true}"), nil, nil, nil)
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
