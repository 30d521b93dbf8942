package engine_test

import (
	"context"
	"errors"
	"os"
	"regexp"
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
		t.Log(record.Timeline())
	}
	return record, err
}

// errEnough ends a scenario that waits for what will not come.
var errEnough = errors.New("that is enough")

// runUntil plays a scenario and interrupts it when the facts are so.
func runUntil(t *testing.T, env targets.Env, text string, enough func(*history.Facts) bool) error {
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
  - repeat: {times: 2, steps: [{permissions: shipped}]}
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
  - offset: {since: here, by: 1ms, late: 1m}
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
		"token rotate", "permissions shipped", "permissions shipped", "queue hide", "queue restore", "apiserver stop", "apiserver start", "start b", "kubectl get cm",
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
  a: Draining to DrainAndSuspend, source global, effective DrainAndSuspend, 1 running, 0 waiting; waits for 1 task`},
		{name: "subjects", script: drains, steps: "[{await: {a: {running: 1}, tasks: {finished: 1}}}]",
			want: `await: tasks: finished is 0, want 1; waited T, then that is enough
  a: Draining to DrainAndSuspend, source global, effective DrainAndSuspend, 1 running, 0 waiting; waits for 1 task
  tasks: 0 started, 0 finished`},
		{name: "exited", script: exits, steps: "[{await: {a: {phase: Suspended}}}]",
			want: `await: phase is Running, want Suspended; a: it has exited with 10 (the drain deadline has passed), so this will not come any more
  a: Running, source default, effective Running, 0 running, 0 waiting; exited with 10: the drain deadline has passed
    first
    it goes wrong`},
		{name: "exit code", script: exits, steps: "[{await: {a: {exit: 0}}}]",
			want: `await: exit is 10, want 0; a: it has exited with 10 (the drain deadline has passed), so this will not come any more
  a: Running, source default, effective Running, 0 running, 0 waiting; exited with 10: the drain deadline has passed
    first
    it goes wrong`},
		{name: "too many", script: drains, steps: "[{await: {a: {running: 1}}}, {await: {a: {processes: 2}}}]",
			want: `await: processes is 1, want 2; a: only steps change processes
  a: Draining to DrainAndSuspend, source global, effective DrainAndSuspend, 1 running, 0 waiting; waits for 1 task`},
		{name: "expect", script: idle, steps: "[{await: {a: {phase: Running}}}, {expect: {a: {live: false}}}]",
			want: `expect: live is true, want false; waited T, then that is enough
  a: Running, source default, effective Running, 0 running, 0 waiting`},
		{name: "never", script: exits, steps: "[{await: {a: {exit: 10}}}, {never: {that: {a: {phase: Running}}}}]",
			want: `never: a: what must never be was so, T into the scenario: Running, source default, effective Running, 0 running, 0 waiting`},
		{name: "queue", script: idle, change: func(e *fakeEnv) { e.queueErr = errFake }, steps: "[{await: {tasks: {left: 0}}}]",
			want: `await: left is not known: the queue cannot be read: made to fail; waited T, then that is enough
  tasks: 0 started, 0 finished`},
		{name: "journal", script: idle, change: func(e *fakeEnv) { e.journalFails = errFake }, steps: "[{await: {tasks: {finished: 1}}}]",
			want: `await: finished is 0, want 1; waited T, then that is enough
  tasks: 0 started, 0 finished
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
			err := runUntil(t, env, "steps: "+tt.steps+"\n", func(f *history.Facts) bool {
				return f.Step != nil && f.Step.Line == 6 && f.Runner("a").Status != nil && f.Runner("a").Exit == nil &&
					(env.journalFails == nil || f.Troubles != nil) && (env.queueErr == nil || f.QueueTrouble != "") && strings.Contains(tt.want, "enough")
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
	_, err := run(t, newFakeEnv(t, idle), "steps:\n  - expect: {a: {processes: 1}}\n\n  - expect: {a: {processes: 2}}\n")
	if want := "scenarios/x/fake.yaml:9: expect: processes is 1, want 2; "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// The budget of a step ends it, and says so without the scenario's timeout.
func TestBudget(t *testing.T) {
	t.Setenv("E2E_TIME_FACTOR", "1")
	// What comes before the await has all the time it needs.
	env := hurried{newFakeEnv(t, idle)}
	_, err := run(t, env, "steps:\n  - await: {a: {phase: Suspended, processes: 1}}\n")
	if err == nil || !regexp.MustCompile(`; waited [0-9.ms]+\n`).MatchString(err.Error()) {
		t.Errorf("got %v", err)
	}
}

// hurried has little time from the start of a runner on.
type hurried struct{ *fakeEnv }

func (h hurried) StartRunner(ctx context.Context, spec targets.RunnerSpec, tells targets.Sink) (targets.Runner, error) {
	_ = os.Setenv("E2E_TIME_FACTOR", "0.001") // until the end of the test
	return h.fakeEnv.StartRunner(ctx, spec, tells)
}

// The scenario's timeout ends it wherever it is, and is named.
func TestTimeout(t *testing.T) {
	_, err := run(t, newFakeEnv(t, idle), "timeout: 200ms\n"+head+"steps:\n  - await: {a: {phase: Suspended}}\n")
	if err == nil || !strings.Contains(err.Error(), "then the scenario's timeout of 200ms is over") {
		t.Errorf("got %v", err)
	}
}

// An await ends with the entry that makes it true, whatever is slow besides.
func TestStillMet(t *testing.T) {
	env := newFakeEnv(t, func(r *fakeRunner) {
		r.say(running())
		r.say(api.Status{Phase: api.PhaseTerminated, Source: api.SourceGlobal})
		r.exit(0, "drained")
		// What the task wrote may be read after its runner's end.
		r.env.finish("late-1", "a")
	})
	_, err := run(t, env, `name: fake
rows: [1]
targets: [embedded]
tasks: [{group: late}]
runners: {a: {}}
steps:
  - await: {a: {exit: 0, phase: Terminated, source: global, finished: 1}}
`)
	if err != nil {
		t.Error(err)
	}
}

// What has happened may be told later than what was waited for: here a task has
// written that it runs, and its runner says so only when the expect has begun.
func TestExpectWaitsForNews(t *testing.T) {
	begun := make(chan struct{})
	env := newFakeEnv(t, func(r *fakeRunner) {
		r.say(running())
		r.env.notes.add(targets.TaskNote{Task: "work-1", Attempt: 1, Runner: "a"})
		<-begun
		busy := running()
		busy.Tasks = api.TaskCounts{Running: 1, Started: 1}
		r.say(busy)
		<-r.env.t.Context().Done()
	})
	tell := sync.OnceFunc(func() { close(begun) })
	defer tell()
	err := runUntil(t, env, head+"tasks: [{group: work}]\nsteps:\n  - await: {tasks/work: {started: 1}}\n  - expect: {a: {running: 1}}\n",
		func(f *history.Facts) bool {
			if f.Step != nil && f.Step.Line == 9 {
				tell()
			}
			return false
		})
	if err != nil {
		t.Error(err)
	}
}

// The look that the end of the budget cuts short does not hide what the one
// before it saw.
func TestLastWholeLook(t *testing.T) {
	t.Setenv("E2E_TIME_FACTOR", "0.1")
	env := &secondLookHangs{fakeEnv: newFakeEnv(t, idle)}
	_, err := run(t, env, head+"tasks: [{group: work}]\nsteps:\n  - await: {a: {phase: Running}}\n  - expect: {tasks/work: {queued: 2}}\n")
	if err == nil || !strings.Contains(err.Error(), "expect: queued is 1, want 2; waited") {
		t.Errorf("got %v", err)
	}
}

// secondLookHangs answers the first look into the queue, and no other.
type secondLookHangs struct {
	*fakeEnv
	looks int
}

func (e *secondLookHangs) Queue(ctx context.Context) (targets.Contents, error) {
	if e.looks++; e.looks == 1 {
		return e.fakeEnv.Queue(ctx)
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// A mark and never look at the past; nothing is waited for.
func TestNever(t *testing.T) {
	script := func(r *fakeRunner) {
		r.tells.Log("starting")
		r.say(running())
		r.say(api.Status{Phase: api.PhaseDraining, Source: api.SourceGlobal, Target: api.DrainAndSuspend})
		r.say(api.Status{Phase: api.PhaseSuspended, Source: api.SourceGlobal})
		<-r.env.t.Context().Done()
	}
	tests := []struct {
		never string
		fails bool
	}{
		{"{that: {a: {phase: Draining}}}", true},
		{"{that: {a: {phase: Draining, source: node}}}", false},
		{"{that: {a: {phase: Terminated}}}", false},
		{"{since: now, that: {a: {phase: Draining}}}", false},
		{"{since: now, that: {a: {phase: Suspended}}}", true}, // as it was at the mark
		{"{that: {a: {log: start}}}", true},                   // before the first status
		{"{since: now, that: {a: {log: start}}}", false},
		{"{that: {a: {exit: 0}}}", false},
		{"{that: {a: {processes: 1}}}", true},
		{"{that: {tasks: {left: 1}}}", false},
		{"{that: {tasks: {left: 0}}}", true},    // it is looked up at last
		{"{that: {b: {phase: Running}}}", true}, // nothing could have shown it
	}
	for _, tt := range tests {
		t.Run(tt.never, func(t *testing.T) {
			_, err := run(t, newFakeEnv(t, script), strings.Replace(head, "a: {}", "a: {}, b: {delayed: true}", 1)+
				"steps:\n  - await: {a: {phase: Suspended, log: starting}}\n  - mark: now\n  - never: "+tt.never+"\n  - start: [b]\n")
			if (err != nil) != tt.fails {
				t.Errorf("got %v, want error: %v", err, tt.fails)
			}
		})
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
