package lifecycle_test

import (
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
	. "github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// begun is a gate behind which tasks have started, of which some still run.
func begun(all, running int) func(*Input) {
	return func(in *Input) {
		in.Gate = gate.Snapshot{Counts: api.TaskCounts{Started: all, Running: running}, Idle: running == 0}
	}
}

// looking is the same, with a slot that looks for work.
func looking(all, running int) func(*Input) {
	return func(in *Input) {
		begun(all, running)(in)
		in.Gate.Idle = false
	}
}

func wantLimit(t *testing.T, o Orders, reason string) {
	t.Helper()
	if r := o.Report; r.Source != api.SourceLimit || r.ResourceVersion != "" || !strings.Contains(r.Reason, reason) {
		t.Errorf("source %s, resourceVersion %q, reason %q; want limit, none, %q", r.Source, r.ResourceVersion, r.Reason, reason)
	}
}

// catalogue: row 80
func TestMaxTasks(t *testing.T) {
	d := newDriver(t)
	d.machine.MaxTasks, d.machine.Park, d.machine.DrainDeadline = 3, true, time.Second
	wantPhase(t, d.step(0, begun(2, 2)), api.PhaseRunning, true)
	o := d.step(0, begun(3, 2))
	wantPhase(t, o, api.PhaseDraining, false)
	wantLimit(t, o, "3 tasks were started, as many as --max-tasks allows; 2 tasks still run")
	if s := o.Report.Shadowed; s == nil || *s != (api.Shadowed{Source: api.SourceGlobal, Value: api.Running}) {
		t.Errorf("shadowed is %v, want what the global map says", s)
	}
	// It has all the time that it wants, and no state opens the gate again.
	o = d.step(time.Hour, d.set("DrainAndSuspend"))
	wantLimit(t, o, "3 tasks")
	wantPhase(t, d.step(0, d.set("Running")), api.PhaseDraining, false)
	if o.Stop != LeaveAlone || o.Exit != nil {
		t.Errorf("stop %v, exit %v, while tasks may run", o.Stop, o.Exit)
	}
	o = d.step(time.Hour, begun(3, 0))
	wantPhase(t, o, api.PhaseTerminated, false)
	wantExit(t, o, api.ExitDrained)
	if o.Exit != nil && !strings.Contains(o.Exit.Message, "--max-tasks") {
		t.Errorf("the last word is %q", o.Exit.Message)
	}
	if o.Check {
		t.Error("reads the maps, which have no say")
	}
}

// A task that the machine refuses was none: the runner looks for another one.
func TestWhatTheMachineRefusesIsNoTaskOfTheLimit(t *testing.T) {
	d := newDriver(t)
	d.machine.MaxTasks = 1
	d.step(0, begun(1, 1))
	refused := func(running int) func(*Input) {
		return func(in *Input) { begun(1, running)(in); in.Gate.Refused = 1 }
	}
	for running := range 2 {
		o := d.step(0, refused(running))
		if wantPhase(t, o, api.PhaseRunning, true); o.Exit != nil {
			t.Errorf("exit %+v", o.Exit)
		}
	}
	wantPhase(t, d.step(0, func(in *Input) { begun(2, 1)(in); in.Gate.Refused = 1 }), api.PhaseDraining, false)
	wantExit(t, d.step(0, func(in *Input) { begun(2, 0)(in); in.Gate.Refused = 1 }), api.ExitDrained)
}

// The deadline is that of a drain that somebody asked for.
func TestADrainAtTheLimitHasItsDeadline(t *testing.T) {
	d := newDriver(t)
	d.machine.MaxTasks, d.machine.DrainDeadline = 1, time.Minute
	d.step(0, begun(1, 1))
	d.step(time.Hour, d.set("DrainAndTerminate"))
	if o := d.step(time.Minute-1, nil); o.Stop != LeaveAlone {
		t.Errorf("stop %v before the deadline", o.Stop)
	}
	if o := d.step(1, nil); o.Stop != Terminate {
		t.Errorf("stop %v at the deadline", o.Stop)
	}
	wantExit(t, d.step(0, begun(1, 0)), api.ExitUnfinished)
}

func TestASignalOutweighsTheLimit(t *testing.T) {
	d := newDriver(t)
	d.machine.MaxTasks = 1
	d.step(0, begun(1, 1))
	if o := d.step(0, signal); o.Report.Source != api.SourceSignal {
		t.Errorf("source %s", o.Report.Source)
	}
	wantExit(t, d.step(0, begun(1, 0)), api.ExitSignalled)
}

// catalogue: row 80
func TestMaxIdle(t *testing.T) {
	const limit = 10 * time.Minute
	d := newDriver(t)
	d.machine.MaxIdle = limit
	unread := func(in *Input) { in.Maps.Global.Known = false }
	for _, story := range []struct {
		what  string
		after time.Duration
		input func(*Input)
		wakes bool
	}{
		{"nothing was read yet", time.Hour, unread, false},
		{"nobody looks for work yet", time.Hour, func(in *Input) { in.Maps.Global.Known = true }, false},
		{"idle", time.Hour, looking(0, 0), true},
		{"a task", limit - 1, begun(1, 1), false},
		{"it runs on", time.Hour, nil, false},
		{"the machine refused it, and it pauses", time.Hour, begun(1, 0), false},
		{"the pause is long", time.Hour, nil, false},
		{"idle again", time.Hour, looking(1, 0), true},
		{"a task that nobody saw", limit - 1, looking(2, 0), true},
		{"suspended", limit - 1, d.set("DrainAndSuspend"), false},
		{"suspended for long", time.Hour, nil, false},
		{"resumed", time.Hour, d.set("Running"), true},
	} {
		o := d.step(story.after, story.input)
		if want := d.in.Now.Add(limit); o.Exit != nil || story.wakes != o.Wake.Equal(want) || !story.wakes && !o.Wake.IsZero() {
			t.Fatalf("%s: exit %v, wakes at %v", story.what, o.Exit, o.Wake)
		}
	}
	wantPhase(t, d.step(limit, nil), api.PhaseDraining, false)
	o := d.step(0, begun(2, 0))
	wantPhase(t, o, api.PhaseTerminated, false)
	wantLimit(t, o, "there was no task for the 10m0s of --max-idle")
	wantExit(t, o, api.ExitDrained)
}
