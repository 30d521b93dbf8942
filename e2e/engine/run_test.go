package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// head is the beginning of the scenarios here; the steps begin in line 6.
const head = `name: fake
rows: [1]
targets: [embedded]
needs: [apiserver, network, queue-outage, signals, token]
runners: {a: {}}
`

// Who submits nothing, does nothing to tasks, and asks for none needs no queue.
func TestIdle(t *testing.T) {
	for text, idle := range map[string]bool{
		"steps:\n  - await: {a: {phase: Running}}\n":                                      true,
		"steps:\n  - submit: {group: t, count: 1}\n  - await: {a: {phase: Running}}\n":    false,
		head + "tasks: [{group: t, count: 1}]\nsteps: [{await: {a: {phase: Running}}}]\n": false,
		"steps:\n  - expect: {tasks: {left: 0}}\n":                                        false,
		"steps:\n  - never: {that: {tasks: {left: 1}}}\n":                                 false,
	} {
		if got := engine.Idle(parse(t, text)); got != idle {
			t.Errorf("%s\nis idle: %t, want %t", text, got, idle)
		}
	}
}

// parse reads a scenario; a text that begins with steps gets a head.
func parse(t *testing.T, text string) scenario.Scenario {
	t.Helper()
	if strings.HasPrefix(text, "steps:") {
		text = head + text
	}
	all, err := engine.Format.Parse("scenarios/x/fake.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

// run plays a scenario.
func run(t *testing.T, env targets.Env, text string) (*history.History, error) {
	t.Helper()
	record := history.New()
	err := engine.Run(t.Context(), env, parse(t, text), record)
	if t.Failed() {
		t.Log(engine.Timeline(record))
	}
	return record, err
}

// errEnough ends a scenario that waits for what will not come.
var errEnough = errors.New("that is enough")

// runUntil plays a scenario and interrupts it when its record says so.
func runUntil(t *testing.T, env targets.Env, text string, enough func(*history.Summary) bool) error {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	record := history.New()
	var watcher sync.WaitGroup
	defer watcher.Wait()
	watcher.Go(func() {
		if record.Wait(ctx, enough) == nil {
			cancel(errEnough)
		}
	})
	err := engine.Run(ctx, env, parse(t, text), record)
	cancel(nil)
	return err
}

// running is the status of a runner that has nothing to do.
func running() api.Status {
	return api.Status{Phase: api.PhaseRunning, Effective: api.Running, Source: api.SourceDefault}
}

// idle plays a runner that runs until it is told to end.
func idle(r *fakeRunner) {
	r.tells.Log("serving")
	r.say(running())
	select {
	case sig := <-r.signals:
		if sig == syscall.SIGKILL {
			r.exit(-1, "")
			return
		}
		r.say(api.Status{Phase: api.PhaseTerminated, Source: api.SourceSignal})
		r.exit(api.ExitSignalled, "drained after SIGTERM")
	case <-r.env.t.Context().Done():
	}
}

func TestEveryStep(t *testing.T) {
	env := newFakeEnv(t, func(r *fakeRunner) {
		if r.name == "a" {
			for _, id := range []string{"early-1", "work-1", "work-2"} {
				r.env.finish(id, "a")
			}
		}
		idle(r)
	})
	// The tasks finish as soon as the runner starts, so they are submitted before.
	record, err := run(t, faultyEnv{env}, `name: all steps
rows: [1]
targets: [embedded]
needs: [apiserver, network, queue-outage, signals, gpus, token, kubectl, admission]
maps: {global: Running, a: keyless}
tasks:
  - {group: early}
  - {group: work, count: 2, hold: true, fail: false, ignoreTerm: true, gpus: 1, gpuMemory: 16Gi, timeout: 90s, lasts: 2s}
runners: {a: {gpus: 1}, b: {delayed: true}}
steps:
  - await: {a: {phase: Running, live: true, ready: true, processes: 1, log: serv}, tasks: {finished: 3, left: 0}}
  - expect: {tasks/work: {started: 2, queued: 0, dead: 0}}
  - start: [b]
  - await: {b: {phase: Running}}
  - release: [work]
  - permissions: named
  - admission: install
  - network: cut
  - network: restore
  - network: 500ms
  - network: drop
  - network: {answer: 429, retryAfter: 45s}
  - network: {late: 2s}
  - token: rotate
  - permissions: shipped
  - queue: hide
  - queue: restore
  - mark: here
  - apiserver: stop
  - apiserver: start
  - wait: {for: 1ms, because: it is a test}
  - signal: {a: TERM, b: KILL}
  - await: {a: {exit: 143, phase: Terminated}, b: {exit: -1, processes: 1}}
  - start: [b]
  - await: {b: {processes: 2, phase: Running}}
  - offset: {since: here, by: 1ms}
  - kubectl: get cm
  - owner: [cancel work-1, retry work-1]
  - say: that is all
  - never: {since: here, that: {a: {phase: Draining}}}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"submit early-1 {Group:early Hold:false Fail:false IgnoreTerm:false Steps:0 Lasts:0s} gpus=0",
		"submit work-1 {Group:work Hold:true Fail:false IgnoreTerm:true Steps:0 Lasts:2s} gpus=1",
		"submit work-2 {Group:work Hold:true Fail:false IgnoreTerm:true Steps:0 Lasts:2s} gpus=1",
		"start a", "start b", "release work", "permissions named", "admission",
		"network {Mode:cut Limit:0s Answer:0 RetryAfter:0s Late:0s}", "network {Mode:restore Limit:0s Answer:0 RetryAfter:0s Late:0s}",
		"network {Mode: Limit:500ms Answer:0 RetryAfter:0s Late:0s}", "network {Mode:drop Limit:0s Answer:0 RetryAfter:0s Late:0s}",
		"network {Mode: Limit:0s Answer:429 RetryAfter:45s Late:0s}", "network {Mode: Limit:0s Answer:0 RetryAfter:0s Late:2s}",
		"token rotate", "permissions shipped", "queue hide", "queue restore", "apiserver stop", "apiserver start", "start b", "kubectl get cm",
		"owner cancel work-1", "owner retry work-1",
	}
	if diff := cmp.Diff(want, env.calls); diff != "" {
		t.Errorf("calls, want - got +\n%s", diff)
	}
	said := ""
	for _, e := range record.Entries() {
		said += e.Output
	}
	if want := "$ kubectl get cm\nit prints this\n$ runner cancel work-1\n$ runner retry work-1\n\n# that is all\n"; said != want {
		t.Errorf("what was said, typed and printed is %q, want %q", said, want)
	}
	for key, state := range map[string]string{"here/" + api.GlobalMapName: "Running", "here/a": ""} {
		if m := env.api.have(key); m == nil || m.Data[api.StateKey] != state {
			t.Errorf("map %s is %v, want STATE %q", key, m, state)
		}
	}
}

// A rule that was broken fails a scenario that is content otherwise, in the
// line where the scenario begins.
func TestRulesAreApplied(t *testing.T) {
	_, err := run(t, newFakeEnv(t, func(r *fakeRunner) {
		r.tells.Log("WARNING: DATA RACE")
		idle(r)
	}), "steps:\n  - await: {a: {log: DATA RACE}}\n")
	if want := `scenarios/x/fake.yaml:1: after the last step: runner a: "WARNING: DATA RACE"; see its log`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// The line of a step is that of the file.
func TestLine(t *testing.T) {
	_, err := run(t, newFakeEnv(t, idle), "steps:\n  - expect: {a: {processes: 1}}\n\n  - expect: {a: {processes: 0}}\n")
	if want := "scenarios/x/fake.yaml:9: expect: processes is 1, want 0; "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// An interrupted scenario ends soon, with all that it started.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	env := newFakeEnv(t, func(r *fakeRunner) { r.say(running()); cancel() })
	begun := time.Now()
	err := engine.Run(ctx, env, parse(t, "steps:\n  - await: {a: {phase: Suspended}}\n"), history.New())
	if err == nil || !strings.Contains(err.Error(), "context canceled") || time.Since(begun) > 10*time.Second {
		t.Errorf("after %s: %v", time.Since(begun), err)
	}
}

func TestNodeMaps(t *testing.T) {
	s := parse(t, "name: x\nrows: [1]\ntargets: [embedded]\nrunners: {a: {}, b: {hostname: host}, c: {hostname: unset}}\nsteps: [{expect: {a: {processes: 1}}}]\n")
	if diff := cmp.Diff([]string{"a", "host", "c"}, engine.NodeMaps(s)); diff != "" {
		t.Error(diff)
	}
}

// A wait lasts longer where everything has more time, as what it waits for does.
func TestWaitIsStretched(t *testing.T) {
	t.Setenv("E2E_TIME_FACTOR", "3")
	begun := time.Now()
	_, err := run(t, newFakeEnv(t, idle), "steps:\n  - wait: {for: 50ms, because: it is a test}\n  - expect: {a: {processes: 1}}\n")
	if took := time.Since(begun); err != nil || took < 150*time.Millisecond {
		t.Errorf("took %s, want 150ms at least: %v", took, err)
	}
}
