package engine_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/runner/api"
)

// times are what differs from one run to the next.
var times = regexp.MustCompile(`waited [0-9.µms]+|[0-9.µms]+ into`)

func TestMessages(t *testing.T) {
	drains := func(r *fakeRunner) {
		r.say(api.Status{Phase: api.PhaseDraining, Target: api.DrainAndSuspend, Effective: api.DrainAndSuspend, Source: api.SourceGlobal,
			Reason: "waits for 1 task", Tasks: api.TaskCounts{Running: 1, Started: 1}})
		<-r.env.t.Context().Done()
	}
	exits := func(r *fakeRunner) {
		r.say(running())
		r.tells.Log("first")
		r.tells.Log("it goes wrong")
		r.exit(10, "the drain deadline has passed")
	}
	tests := []struct {
		name, steps string
		script      func(*fakeRunner)
		change      func(*fakeEnv)
		want        string
	}{
		{name: "await", script: drains, steps: "[{await: {a: {phase: Suspended, running: 0}}}]",
			want: `await: phase is Draining, want Suspended; running is 1, want 0; waited T, then that is enough
  a: phase Draining, effective DrainAndSuspend, target DrainAndSuspend, source global, reason waits for 1 task, running 1, busy true, seen true, processes 1`},
		{name: "subjects", script: drains, steps: "[{await: {a: {running: 1}, tasks: {finished: 1}}}]",
			want: `await: tasks: finished is 0, want 1; waited T, then that is enough
  a: phase Draining, effective DrainAndSuspend, target DrainAndSuspend, source global, reason waits for 1 task, running 1, busy true, seen true, processes 1
  tasks: nothing yet`},
		{name: "exited", script: exits, steps: "[{await: {a: {phase: Suspended}}}]",
			want: `await: phase is Running, want Suspended; a: it has exited with 10 (the drain deadline has passed), so this will not come any more
  a: phase Running, effective Running, source default, seen true, exit 10 (the drain deadline has passed), processes 1, log 2 lines
    first
    it goes wrong`},
		{name: "exit code", script: exits, steps: "[{await: {a: {exit: 0}}}]",
			want: `await: exit is 10, want 0 (the drain deadline has passed); a: it has exited with 10 (the drain deadline has passed), so this will not come any more
  a: phase Running, effective Running, source default, seen true, exit 10 (the drain deadline has passed), processes 1, log 2 lines
    first
    it goes wrong`},
		{name: "too many", script: drains, steps: "[{await: {a: {running: 1}}}, {await: {a: {processes: 2}}}]",
			want: `await: processes is 1, want 2; waited T, then that is enough
  a: phase Draining, effective DrainAndSuspend, target DrainAndSuspend, source global, reason waits for 1 task, running 1, busy true, seen true, processes 1`},
		{name: "expect", script: idle, steps: "[{await: {a: {phase: Running}}}, {expect: {a: {live: false}}}]",
			want: `expect: live is true, want false; waited T, then that is enough
  a: phase Running, effective Running, source default, seen true, processes 1, log 1 lines, live true`},
		{name: "never", script: exits, steps: "[{await: {a: {exit: 10}}}, {never: {that: {a: {phase: Running}}}}]",
			want: `never: a: what must never be was so, T into the scenario: phase Running, effective Running, source default, seen true, processes 1`},
		{name: "queue", script: idle, change: func(e *fakeEnv) { e.queueErr = errFake }, steps: "[{await: {tasks: {left: 0}}}]",
			want: `await: left is not known: the queue cannot be read: made to fail; waited T, then that is enough
  tasks: nothing yet`},
		{name: "journal", script: idle, change: func(e *fakeEnv) { e.journalFails = errFake }, steps: "[{await: {tasks: {finished: 1}}}]",
			want: `await: finished is 0, want 1; waited T, then that is enough
  tasks: nothing yet
  the record may have a gap: the journal has failed: made to fail
the record may have a gap: the journal has failed: made to fail`},
		{name: "wait", script: idle, steps: "[{wait: {for: 50s, because: it is a test}}, {expect: {a: {processes: 1}}}]",
			want: "wait: that is enough"},
		{name: "cannot", script: idle, steps: "[{network: cut}, {expect: {a: {processes: 1}}}]",
			want: `network: the target said that it can do this, but its Env cannot`},
		{name: "not there", script: idle, steps: "[{delete: [global]}, {expect: {a: {processes: 1}}}]",
			want: `delete: global: configmaps "studioml-go-runner" not found`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := newFakeEnv(t, tt.script)
			if tt.change != nil {
				tt.change(env)
			}
			// The steps are in one line, and what is interrupted is one of them.
			err := runUntil(t, env, "steps: "+tt.steps+"\n", func(s *history.Summary) bool {
				return s.Step != nil && s.Step.Line == 6 && s.Runner("a").Status != nil && s.Runner("a").Exit == nil &&
					(env.journalFails == nil || s.Troubles != nil) && (env.queueErr == nil || s.QueueTrouble != "") && strings.Contains(tt.want, "enough")
			})
			if err == nil {
				t.Fatal("no error")
			}
			got := times.ReplaceAllStringFunc(err.Error(), func(s string) string {
				if strings.HasPrefix(s, "waited") {
					return "waited T"
				}
				return "T into"
			})
			if diff := cmp.Diff("scenarios/x/fake.yaml:6: "+tt.want, got); diff != "" {
				t.Errorf("message, want - got +\n%s", diff)
			}
		})
	}
}
