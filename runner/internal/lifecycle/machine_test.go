package lifecycle_test

import (
	"errors"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
	. "github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// driver steps a machine through a story.
type driver struct {
	t       *testing.T
	machine Machine
	state   Progress
	in      Input
	asked   time.Time // since when the machine has asked for a fresh read; zero if it does not
}

func newDriver(t *testing.T) *driver {
	return &driver{t: t,
		machine: Machine{Settle: settle, GracePeriod: 25 * time.Second, KillDelay: 3 * time.Second},
		in:      Input{Now: start, Maps: maps("Running", "absent"), Gate: busy(0)},
	}
}

func busy(n int) gate.Snapshot {
	return gate.Snapshot{Counts: api.TaskCounts{Running: n}, Idle: n == 0}
}

func (d *driver) step(after time.Duration, change func(*Input)) Orders {
	d.t.Helper()
	d.in.Now = d.in.Now.Add(after)
	if change != nil {
		change(&d.in)
	}
	if d.in.Fresh != nil {
		d.in.Fresh.Began, d.asked = d.asked, time.Time{}
	}
	var o Orders
	d.state, o = d.machine.Step(d.state, d.in)
	d.in.Fresh = nil
	if !o.Check {
		d.asked = time.Time{}
	} else if d.asked.IsZero() {
		d.asked = d.in.Now
	}
	if p := o.Report.Phase; (p == api.PhaseSuspended || p == api.PhaseTerminated) && d.in.Gate.Counts.Running > 0 {
		d.t.Fatalf("%s is reported while %d tasks run", p, d.in.Gate.Counts.Running)
	}
	return o
}

func (d *driver) set(global string) func(*Input) {
	return func(in *Input) { in.Maps = maps(global, "absent") }
}

func tasks(n int) func(*Input) { return func(in *Input) { in.Gate = busy(n) } }

func answer(global string, err error) func(*Input) {
	return func(in *Input) { in.Fresh = &FreshRead{Maps: maps(global, "absent"), Err: err} }
}

func signal(in *Input) {
	in.Signals++
	in.LastSignal = in.Now
	if in.Signals == 1 {
		in.FirstSignal = in.Now
	}
}

func wantPhase(t *testing.T, o Orders, phase api.Phase, open bool) {
	t.Helper()
	if o.Report.Phase != phase || o.Open != open {
		t.Errorf("phase %s, gate open %v; want %s, %v", o.Report.Phase, o.Open, phase, open)
	}
}

func wantExit(t *testing.T, o Orders, code int) {
	t.Helper()
	if o.Exit == nil {
		t.Errorf("no exit in phase %s (%s), want code %d", o.Report.Phase, o.Report.Reason, code)
	} else if o.Exit.Code != code {
		t.Errorf("exit code %d (%s), want %d", o.Exit.Code, o.Exit.Message, code)
	}
}

func TestUnknownKeepsTheGateClosed(t *testing.T) {
	d := newDriver(t)
	wantPhase(t, d.step(0, func(in *Input) { in.Maps.Global.Known = false }), api.PhaseUnknown, false)
	wantPhase(t, d.step(time.Hour, nil), api.PhaseUnknown, false)
	wantPhase(t, d.step(0, func(in *Input) { in.Maps.Global.Known = true }), api.PhaseRunning, true)
}

func TestSuspendDrainsAndWaits(t *testing.T) {
	d := newDriver(t)
	d.step(0, tasks(2))
	o := d.step(time.Second, d.set("DrainAndSuspend"))
	wantPhase(t, o, api.PhaseDraining, false)
	if o.Report.Target != api.DrainAndSuspend {
		t.Errorf("target %s", o.Report.Target)
	}
	wantPhase(t, d.step(time.Hour, tasks(0)), api.PhaseSuspended, false)
	wantPhase(t, d.step(time.Hour, nil), api.PhaseSuspended, false)
	wantPhase(t, d.step(time.Hour, d.set("Running")), api.PhaseRunning, true)
}

// catalogue: row 15
func TestChangesOfOtherThingsAreNoTransition(t *testing.T) {
	d := newDriver(t)
	before := d.step(0, nil)
	after := d.step(time.Second, func(in *Input) { in.Maps.Global.ResourceVersion = "8" })
	before.Report.ResourceVersion = "8"
	if before.Report != after.Report || before.Open != after.Open {
		t.Errorf("before %+v, after %+v", before.Report, after.Report)
	}
}

func TestTerminateExitsAfterTheWindowAndAFreshRead(t *testing.T) {
	d := newDriver(t)
	d.step(0, nil)
	o := d.step(0, d.set("DrainAndTerminate"))
	wantPhase(t, o, api.PhaseDraining, false)
	if o.Check || o.Exit != nil || !o.Wake.Equal(start.Add(settle)) {
		t.Errorf("before the window: check %v, exit %v, wake %v", o.Check, o.Exit, o.Wake)
	}
	o = d.step(settle, nil)
	if !o.Check || o.Exit != nil {
		t.Errorf("after the window: check %v, exit %v", o.Check, o.Exit)
	}
	o = d.step(0, answer("DrainAndTerminate", nil))
	wantPhase(t, o, api.PhaseTerminated, false)
	wantExit(t, o, api.ExitDrained)
}

// A deletion is confirmed by fresh reads, one at a time and not without a pause;
// parked runners and those about to exit ask as well.
func TestADeletionIsConfirmed(t *testing.T) {
	for _, state := range []string{"DrainAndSuspend", "DrainAndTerminate"} {
		d := newDriver(t)
		d.machine.Park = true
		d.step(0, d.set(state))
		d.step(time.Hour, nil)
		d.step(0, answer(state, nil))
		gone := func(in *Input) { in.Maps = maps("absent", "absent"); in.Maps.Global.Gone = in.Now }
		if o := d.step(0, gone); o.Check || o.Open || !o.Wake.Equal(d.in.Now.Add(settle)) {
			t.Errorf("%s, within the window: %+v", state, o)
		}
		if o := d.step(settle, nil); !o.Check || o.Open {
			t.Errorf("%s, after the window: no fresh read is asked for", state)
		}
		if o := d.step(30*time.Second, answer("absent", errors.New("no"))); o.Check || o.Open || o.Exit != nil || o.Report.GlobalProblem == nil || !o.Wake.Equal(d.in.Now.Add(settle)) {
			t.Errorf("%s, without an answer: %+v", state, o)
		}
		if o := d.step(settle, nil); !o.Check || o.Open {
			t.Errorf("%s, after a pause: no fresh read is asked for", state)
		}
		// It comes back and goes again: what was said of the first time is forgotten.
		d.step(0, answer("absent", errors.New("no")))
		d.step(0, d.set(state))
		d.step(0, gone)
		if o := d.step(settle, nil); !o.Check || o.Report.GlobalProblem != nil {
			t.Errorf("%s, deleted once more: %+v", state, o.Report.GlobalProblem)
		}
		wantPhase(t, d.step(0, answer("absent", nil)), api.PhaseRunning, true)
	}
}

// A fresh read that was ordered for a deletion, or before the state was what it is, is not
// the one that an exit needs: that comes after a window of its own.
func TestOnlyAReadAfterTheWindowCommits(t *testing.T) {
	const suspended, drained = "DrainAndSuspend", "DrainAndTerminate"
	for name, story := range map[string]func(d *driver) Orders{
		"the read of the deletion": func(d *driver) Orders {
			return d.step(0, answer(drained, nil))
		},
		"a slow one, across a change": func(d *driver) Orders {
			d.step(time.Second, func(in *Input) { in.Maps = maps(drained, drained) })
			d.step(0, func(in *Input) { in.Maps = maps(drained, "absent"); in.Maps.Node.Gone = in.Now })
			return d.step(settle, answer(drained, nil))
		},
		"one without an answer": func(d *driver) Orders {
			d.in.Maps.Global.Value = "Running"
			d.step(0, nil)
			d.step(0, func(in *Input) { in.Maps.Node = maps("", drained).Node })
			return d.step(0, answer("", errors.New("timeout")))
		},
	} {
		d := newDriver(t)
		d.in.Maps = maps(drained, suspended)
		d.step(0, nil)
		wantPhase(t, d.step(time.Hour, func(in *Input) { in.Maps = maps(drained, "absent"); in.Maps.Node.Gone = in.Now }), api.PhaseSuspended, false)
		if o := d.step(settle, nil); !o.Check {
			t.Fatal("the deletion is not confirmed")
		}
		since := d.in.Now
		if o := story(d); o.Exit != nil {
			t.Errorf("%s: exit %s after %s of %s", name, o.Exit.Message, d.in.Now.Sub(since), drained)
			continue
		}
		for range 4 { // windows, of which it needs no more
			if d.step(settle, nil).Check {
				break
			}
		}
		wantExit(t, d.step(0, answer(drained, nil)), api.ExitDrained)
	}
}

// The drain that had to stop tasks is over; the signal has one of its own.
func TestASignalAfterADrainThatIsOverExitsWith143(t *testing.T) {
	for _, state := range []string{"DrainAndSuspend", "DrainAndTerminate"} {
		d := newDriver(t)
		d.machine.Park, d.machine.DrainDeadline = true, time.Minute
		d.step(0, tasks(1))
		d.step(0, d.set(state))
		if o := d.step(time.Minute, nil); o.Stop != Terminate {
			t.Fatalf("%s: the deadline stops nothing", state)
		}
		d.step(time.Second, tasks(0))
		d.step(time.Minute, answer(state, nil))
		wantExit(t, d.step(time.Hour, signal), api.ExitSignalled)
	}
}

func TestTerminateWaitsForTheTasks(t *testing.T) {
	d := newDriver(t)
	d.step(0, tasks(1))
	d.step(0, d.set("DrainAndTerminate"))
	if o := d.step(time.Hour, nil); o.Check || o.Exit != nil || o.Stop != LeaveAlone {
		t.Errorf("while a task runs: check %v, exit %v, stop %v", o.Check, o.Exit, o.Stop)
	}
	if o := d.step(0, tasks(0)); !o.Check {
		t.Error("idle after the window: no fresh read")
	}
	wantExit(t, d.step(0, answer("DrainAndTerminate", nil)), api.ExitDrained)
}

func TestRunningCancelsUpToTheCommitPoint(t *testing.T) {
	d := newDriver(t)
	d.step(0, d.set("DrainAndTerminate"))
	if o := d.step(settle, nil); !o.Check {
		t.Fatal("no fresh read")
	}
	// The watch knows first.
	o := d.step(0, d.set("Running"))
	wantPhase(t, o, api.PhaseRunning, true)
	if o.Check || o.Exit != nil {
		t.Errorf("check %v, exit %v after the cancel", o.Check, o.Exit)
	}
	// The window begins anew.
	if o := d.step(time.Hour, d.set("DrainAndTerminate")); o.Check || o.Exit != nil {
		t.Errorf("check %v, exit %v right after the second flip", o.Check, o.Exit)
	}
}

func TestAFreshReadThatDiffersPreventsTheExit(t *testing.T) {
	d := newDriver(t)
	d.step(0, d.set("DrainAndTerminate"))
	d.step(settle, nil)
	o := d.step(0, answer("Running", nil))
	if o.Exit != nil || o.Check {
		t.Errorf("exit %v, check %v although the maps say Running", o.Exit, o.Check)
	}
	if o := d.step(settle, nil); !o.Check {
		t.Error("no second fresh read after the window")
	}
	wantExit(t, d.step(0, answer("DrainAndTerminate", nil)), api.ExitDrained)
}

func TestAnAPIServerThatDoesNotAnswerDoesNotPreventTheExit(t *testing.T) {
	d := newDriver(t)
	d.step(0, d.set("DrainAndTerminate"))
	d.step(settle, nil)
	wantExit(t, d.step(30*time.Second, answer("", errors.New("timeout"))), api.ExitDrained)
}

func TestParkStaysUntilTheStateChanges(t *testing.T) {
	d := newDriver(t)
	d.machine.Park = true
	d.step(0, d.set("DrainAndTerminate"))
	d.step(settle, nil)
	o := d.step(0, answer("DrainAndTerminate", nil))
	wantPhase(t, o, api.PhaseTerminated, false)
	o = d.step(time.Hour, nil)
	if wantPhase(t, o, api.PhaseTerminated, false); o.Exit != nil || o.Check {
		t.Errorf("parked: exit %v, check %v", o.Exit, o.Check)
	}
	wantPhase(t, d.step(0, d.set("Running")), api.PhaseRunning, true)
}

func TestTheDrainDeadlineStopsTasks(t *testing.T) {
	d := newDriver(t)
	d.machine.DrainDeadline = 10 * time.Second
	d.step(0, tasks(1))
	d.step(0, d.set("DrainAndTerminate"))
	if o := d.step(10*time.Second-1, nil); o.Stop != LeaveAlone {
		t.Errorf("stopped before the deadline")
	}
	if o := d.step(1, nil); o.Stop != Terminate || o.Exit != nil {
		t.Errorf("at the deadline: stop %v, exit %v", o.Stop, o.Exit)
	}
	d.step(time.Second, tasks(0))
	wantExit(t, d.step(0, answer("DrainAndTerminate", nil)), api.ExitUnfinished)
}

func TestTheDrainDeadlineOfASuspendEndsSuspended(t *testing.T) {
	d := newDriver(t)
	d.machine.DrainDeadline = 10 * time.Second
	d.step(0, tasks(1))
	d.step(0, d.set("DrainAndSuspend"))
	if o := d.step(10*time.Second, nil); o.Stop != Terminate {
		t.Error("not stopped at the deadline")
	}
	o := d.step(time.Second, tasks(0))
	if wantPhase(t, o, api.PhaseSuspended, false); o.Exit != nil {
		t.Errorf("exit %v", o.Exit)
	}
}

func TestATaskThatDoesNotDieDoesNotHoldUpTheExit(t *testing.T) {
	d := newDriver(t)
	d.machine.DrainDeadline = time.Second
	d.step(0, tasks(1))
	d.step(0, d.set("DrainAndTerminate"))
	o := d.step(time.Second, nil)
	if o.Exit != nil || o.Wake.IsZero() {
		t.Fatalf("exit %v, wake %v", o.Exit, o.Wake)
	}
	wantExit(t, d.step(o.Wake.Sub(d.in.Now), nil), api.ExitUnfinished)
}

func TestSIGTERMDominates(t *testing.T) {
	for _, state := range []string{"Running", "DrainAndTerminate", "DrainAndSuspend"} {
		d := newDriver(t)
		d.step(0, tasks(1))
		d.step(0, d.set(state))
		o := d.step(0, signal)
		wantPhase(t, o, api.PhaseDraining, false)
		if o.Report.Source != api.SourceSignal || o.Report.Target != api.DrainAndTerminate {
			t.Errorf("%s: source %s, target %s", state, o.Report.Source, o.Report.Target)
		}
		if o := d.step(0, d.set("Running")); o.Open {
			t.Errorf("%s: Running after SIGTERM opened the gate", state)
		}
		wantExit(t, d.step(time.Second, tasks(0)), api.ExitSignalled)
	}
}

func TestSIGTERMWithoutWorkExitsAtOnce(t *testing.T) {
	for _, known := range []bool{true, false} {
		d := newDriver(t)
		d.in.Maps.Global.Known = known
		d.step(0, nil)
		wantExit(t, d.step(0, signal), api.ExitSignalled)
	}
}

func TestTheGracePeriodStopsTasks(t *testing.T) {
	d := newDriver(t)
	d.step(0, tasks(1))
	d.step(0, signal)
	if o := d.step(25*time.Second, nil); o.Stop != Terminate || o.Exit != nil {
		t.Errorf("stop %v, exit %v", o.Stop, o.Exit)
	}
	wantExit(t, d.step(time.Second, tasks(0)), api.ExitUnfinished)
}

func TestASecondSignalForces(t *testing.T) {
	d := newDriver(t)
	d.step(0, tasks(1))
	d.step(0, signal)
	if o := d.step(time.Second, signal); o.Stop != Kill || o.Exit != nil {
		t.Errorf("stop %v, exit %v", o.Stop, o.Exit)
	}
	wantExit(t, d.step(0, tasks(0)), api.ExitForced)
}

func TestAForcedExitIsBounded(t *testing.T) {
	d := newDriver(t)
	d.step(0, tasks(1))
	d.step(0, signal)
	o := d.step(0, signal)
	wantExit(t, d.step(o.Wake.Sub(d.in.Now), nil), api.ExitForced)
}
