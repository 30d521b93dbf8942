package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// submits are the ids that were submitted, in their order.
func (e *fakeEnv) submits() (ids []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, call := range e.calls {
		if rest, ok := strings.CutPrefix(call, "submit "); ok {
			id, _, _ := strings.Cut(rest, " ")
			ids = append(ids, id)
		}
	}
	return ids
}

// A group comes again, with numbers that go on, while not too many tasks wait, until
// the last step is done; what has come is accounted for.
func TestAgain(t *testing.T) {
	env := newFakeEnv(t, nil)
	env.script = func(r *fakeRunner) {
		r.say(running())
		for n := 0; n < 7; { // it takes tasks as they come
			if ids := env.submits(); n < len(ids) {
				env.finish(ids[n], "a")
				n++
			}
		}
		<-r.env.t.Context().Done()
	}
	_, err := run(t, env, head+"tasks: [{group: work, count: 2, again: 1ms, waiting: 1}]\nsteps:\n"+
		"  - await: {tasks/work: {finished: 7, queued: 3}}\n  - wait: {for: 50ms, because: no more may come}\n  - expect: {tasks/work: {queued: 3}}\n")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for n := range 10 { // at the end one waits, which lets two more in
		want = append(want, fmt.Sprintf("work-%d", n+1))
	}
	if got := env.submits(); !slices.Equal(got, want) {
		t.Errorf("submitted were %q, want %q", got, want)
	}
}

// A stream that breaks is the scenario's failure.
func TestAgainFails(t *testing.T) {
	env := &queueBreaks{newFakeEnv(t, idle)}
	_, err := run(t, env, head+"tasks: [{group: work, again: 1ms, waiting: 5}]\nsteps:\n  - await: {a: {phase: Running}}\n  - wait: {for: 50ms, because: it takes a moment}\n")
	if err == nil || !strings.Contains(err.Error(), "the stream of work has failed: made to fail") {
		t.Errorf("got %v", err)
	}
}

type queueBreaks struct{ *fakeEnv }

func (queueBreaks) Queue(context.Context) (targets.Contents, error) {
	return nil, errFake
}

// Who attends leaves the steps to people: what was there before them is brought
// about, tasks come, and nothing is typed, until the end is asked for.
func TestAttend(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	env := newFakeEnv(t, idle)
	record := history.New()
	ended := make(chan error, 1)
	s := parse(t, head+"maps: {global: Running}\ntasks: [{group: work, again: 1ms}]\nsteps:\n  - apply: {global: DrainAndSuspend}\n  - await: {a: {phase: Suspended}}\n")
	go func() { ended <- engine.Attend(ctx, env, s, record) }()
	for len(env.submits()) < 3 {
		if err := record.Wait(t.Context(), func(s *history.Summary) bool { return s.Runner("a").Status != nil }); err != nil {
			t.Fatal(err)
		}
	}
	cancel(errEnough)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if m := env.api.have("here/" + api.GlobalMapName); m == nil || m.Data[api.StateKey] != "Running" {
		t.Errorf("the global map is %v", m)
	}
	if n := len(env.submits()); n != len(env.contents) {
		t.Errorf("%d tasks were submitted, %d are there", n, len(env.contents))
	}
}

// A line that kubectl refuses fails with what it says.
func TestKubectlFails(t *testing.T) {
	_, err := run(t, faultyEnv{newFakeEnv(t, idle)}, strings.Replace(head, "needs: [", "needs: [kubectl, ", 1)+"steps:\n  - kubectl: fails\n  - await: {a: {phase: Running}}\n")
	if !errors.Is(err, errFake) || !strings.Contains(err.Error(), "kubectl: made to fail") {
		t.Errorf("got %v", err)
	}
}

var _ targets.Queue = queueBreaks{}
