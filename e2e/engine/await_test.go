package engine_test

import (
	"context"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

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
	if err == nil || !strings.Contains(err.Error(), "the scenario's timeout of 200ms is over") { // a busy machine has not come to the await
		t.Errorf("got %v", err)
	}
}

// An await ends with the entry that makes it true, whatever is slow besides.
func TestStillMet(t *testing.T) {
	env := newFakeEnv(t, func(r *fakeRunner) {
		r.say(running())
		r.say(api.Status{Phase: api.PhaseTerminated, Effective: api.DrainAndTerminate, Source: api.SourceGlobal})
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
		func(s *history.Summary) bool {
			if s.Step != nil && s.Step.Line == 9 {
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

// What an earlier step has asked for does not count where a look is cut short.
func TestOldAnswers(t *testing.T) {
	t.Setenv("E2E_TIME_FACTOR", "0.1")
	for expect, want := range map[string]string{
		"{a: {ready: true}}":        "expect: /readyz did not answer in time",
		"{tasks/work: {queued: 1}}": "expect: the queue cannot be read",
	} {
		env := &firstAnswers{secondLookHangs{fakeEnv: newFakeEnv(t, idle)}}
		_, err := run(t, env, head+"tasks: [{group: work}]\nsteps:\n  - expect: "+expect+"\n  - expect: "+expect+"\n")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "fake.yaml:9") {
			t.Errorf("%s: got %v, want %s", expect, err, want)
		}
	}
}

// firstAnswers has runners that answer once.
type firstAnswers struct{ secondLookHangs }

func (e *firstAnswers) StartRunner(ctx context.Context, spec targets.RunnerSpec, tells targets.Sink) (targets.Runner, error) {
	r, err := e.fakeEnv.StartRunner(ctx, spec, tells)
	return &onceAsked{Runner: r}, err
}

type onceAsked struct {
	targets.Runner
	asked bool
}

func (r *onceAsked) Get(ctx context.Context, path string) (int, []byte, error) {
	if !r.asked {
		r.asked = true
		return r.Runner.Get(ctx, path)
	}
	<-ctx.Done()
	return 0, nil, ctx.Err()
}

// A source that ends leaves a gap, also where it knows of no error.
func TestSourceEndsEarly(t *testing.T) {
	err := runUntil(t, deafEnv{newFakeEnv(t, idle)}, "steps:\n  - await: {a: {phase: Suspended}}\n",
		func(s *history.Summary) bool { return len(s.Troubles) > 0 })
	if want := "the record may have a gap: the journal has failed: it has ended before the scenario"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

type deafEnv struct{ *fakeEnv }

func (deafEnv) Journal(context.Context, func(targets.TaskNote)) error { return nil }

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

// What must not be too early is compared with a mark, and may be as late as it likes.
func TestNeverTooEarly(t *testing.T) {
	for within, fails := range map[string]bool{"50ms": false, "5s": true} {
		_, err := run(t, newFakeEnv(t, idle), strings.Replace(head, "a: {}", "a: {}, b: {delayed: true}", 1)+`steps:
  - mark: asked
  - offset: {since: asked, by: 50ms}
  - start: [b]
  - await: {b: {phase: Running}}
  - never: {since: asked, within: `+within+`, that: {b: {processes: 1}}}
`)
		if (err != nil) != fails || fails && !strings.Contains(err.Error(), "what must never be was so") {
			t.Errorf("within %s: got %v, want error: %v", within, err, fails)
		}
	}
}

// A window that is not over is waited for: what comes in it is too early, and what comes
// after it is not.
func TestNeverWaitsForItsWindow(t *testing.T) {
	for within, fails := range map[string]bool{"50ms": false, "3s": true} {
		env := newFakeEnv(t, func(r *fakeRunner) {
			r.say(running())
			select {
			case <-r.signals:
			case <-r.env.t.Context().Done():
				return
			}
			<-time.After(200 * time.Millisecond)
			r.say(api.Status{Phase: api.PhaseDraining, Source: api.SourceSignal})
			<-r.env.t.Context().Done()
		})
		_, err := run(t, env, `steps:
  - await: {a: {phase: Running}}
  - mark: asked
  - signal: {a: TERM}
  - never: {since: asked, within: `+within+`, that: {a: {phase: Draining}}}
  - await: {a: {phase: Draining}}
`)
		if (err != nil) != fails || fails && !strings.Contains(err.Error(), "what must never be was so") {
			t.Errorf("within %s: got %v, want error: %v", within, err, fails)
		}
	}
}

// What grows is that of one process: the next one begins anew.
func TestGrowthOfAnotherProcess(t *testing.T) {
	t.Setenv("E2E_TIME_FACTOR", "0.1")
	_, err := run(t, counting{newFakeEnv(t, idle)}, `steps:
  - await: {a: {phase: Running}}
  - mark: then
  - expect: {a: {fd: {since: then, most: 0}}}
  - signal: {a: KILL}
  - await: {a: {exit: -1}}
  - start: [a]
  - expect: {a: {fd: {since: then, most: 0}}}
`)
	if want := "fake.yaml:13: expect: fd was not known at then: it is another process by now"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// counting has runners with as many descriptors at any time.
type counting struct{ *fakeEnv }

func (e counting) StartRunner(ctx context.Context, spec targets.RunnerSpec, tells targets.Sink) (targets.Runner, error) {
	r, err := e.fakeEnv.StartRunner(ctx, spec, tells)
	return measured{r}, err
}

type measured struct{ targets.Runner }

func (measured) Get(context.Context, string) (int, []byte, error) {
	return 200, []byte("process_open_fds 5\n"), nil
}
