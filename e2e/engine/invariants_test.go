package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/rules"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// What a scenario is about is right in it, and nothing else.
func TestAllowed(t *testing.T) {
	tests := map[string]rules.Allowed{
		"steps: [{mark: x}, EXPECT]":                         {},
		"steps: [{signal: {a: KILL}}, EXPECT]":               {Killed: map[string]int{"a": 1}},
		"steps: [{signal: {a: TERM}}, EXPECT]":               {Signalled: map[string]bool{"a": true}},
		"steps: [{signal: {a: USR1}}, EXPECT]":               {},
		"steps: [{await: {a: {exit: 1}}}]":                   {Errors: map[string]bool{"a": true}},
		"steps: [{await: {a: {exit: 10}}}]":                  {},
		"steps: [{manifest: {text: x}}, EXPECT]":             {Unheard: true},
		"steps: [EXPECT]\ntasks: [{group: x, fail: true}]":   {Repeats: rules.Groups{"x"}, Fails: rules.Groups{"x"}},
		"steps: [EXPECT]\ntasks: [{group: x, steps: 3}]":     {Repeats: rules.Groups{"x"}},
		"steps: [{submit: {group: x, timeout: 1s}}, EXPECT]": {Repeats: rules.Groups{"x"}, Fails: rules.Groups{"x"}},
		"steps: [{owner: [retry t-1]}, EXPECT]":              {Repeats: rules.Groups{""}, Fails: rules.Groups{""}, Cancels: true},
		"steps: [{submit: {group: x, expires: 1s}}, EXPECT]": {Fails: rules.Groups{"x"}},
		"name: x\nrows: [1]\ntargets: [embedded]\nrunners: {a: {flags: {drain-deadline: 1s}}, b: {}}\nsteps: [EXPECT]": {Repeats: rules.Groups{""}},
	}
	for text, want := range tests {
		text = strings.ReplaceAll(text, "EXPECT", "{expect: {a: {live: true}}}")
		if diff := cmp.Diff(want, engine.Allowed(parse(t, text)), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: want - got +\n%s", text, diff)
		}
	}
}

// The queue is looked at with every scenario that submits tasks.
func TestNothingLost(t *testing.T) {
	tests := []struct {
		name    string
		change  func(e *fakeEnv)
		endless bool // it waits for what will not come
		want    string
	}{
		{"finished", func(e *fakeEnv) { e.finish("t-1", "a") }, false, ""},
		{"left", func(*fakeEnv) {}, false, ""},
		{"lost", func(e *fakeEnv) { e.queue(func(c *targets.Contents) { *c = nil }) }, false, "R12: task t-1 is lost"},
		{"a result out of nothing", func(e *fakeEnv) {
			e.queue(func(c *targets.Contents) { *c = targets.Contents{{ID: "t-1", State: api.TaskFinished}} })
		}, true, "R12: task t-1 has a result, but never said that it came to its end"},
		{"given up", func(e *fakeEnv) {
			e.queue(func(c *targets.Contents) { *c = targets.Contents{{ID: "t-1", State: api.TaskDead, Task: &api.Task{}}} })
		}, false, "R12: task t-1 was given up, and nothing has let it fail"},
		{"unreadable", func(e *fakeEnv) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.queueErr = errFake
		}, false, "made to fail"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := newFakeEnv(t, func(r *fakeRunner) {
				tt.change(r.env)
				idle(r)
			})
			err := runUntil(t, env, `name: fake
rows: [1]
targets: [embedded]
tasks: [{group: t}]
runners: {a: {}}
steps:
  - await: {a: {phase: Running}}
`, func(s *history.Summary) bool {
				return tt.endless && s.Step != nil && s.Step.Text == "invariants" && s.Queue != nil
			})
			if got := fmt.Sprint(err); tt.want == "" && err != nil || !strings.Contains(got, tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
