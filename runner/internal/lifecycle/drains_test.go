package lifecycle_test

import (
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
	. "github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// R6: it is DrainAndTerminate that must have been seen for the window, however
// long the runner has drained for another reason.
func TestTheWindowCountsFromTheStateAndNotFromTheDrain(t *testing.T) {
	for name, before := range map[string]func(*driver){
		"suspended": func(d *driver) { d.step(0, d.set("DrainAndSuspend")) },
		"draining to suspend": func(d *driver) {
			d.step(0, tasks(1))
			d.step(0, d.set("DrainAndSuspend"))
			d.step(time.Hour, tasks(0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t)
			before(d)
			o := d.step(time.Hour, d.set("DrainAndTerminate"))
			if o.Check || o.Exit != nil || !o.Wake.Equal(d.in.Now.Add(settle)) {
				t.Errorf("at the change: check %v, exit %v, wake %v, want a wait of %s", o.Check, o.Exit, o.Wake, settle)
			}
			if o := d.step(settle-1, nil); o.Check {
				t.Error("a fresh read before the window is over")
			}
			if o := d.step(1, nil); !o.Check {
				t.Error("no fresh read after the window")
			}
		})
	}
}

// A drain that Running has cancelled is over; the next one has all its time.
func TestEachDrainHasItsOwnDeadline(t *testing.T) {
	for _, state := range []string{"DrainAndTerminate", "DrainAndSuspend"} {
		d := newDriver(t)
		d.machine.DrainDeadline = 10 * time.Second
		d.step(0, tasks(1))
		d.step(0, d.set(state))
		d.step(9*time.Second, d.set("Running"))
		if o := d.step(time.Hour, d.set(state)); o.Stop != LeaveAlone || !o.Wake.Equal(d.in.Now.Add(10*time.Second)) {
			t.Errorf("%s: the second drain begins with stop %v, wakes at %v", state, o.Stop, o.Wake)
		}
		if o := d.step(10*time.Second-1, nil); o.Stop != LeaveAlone {
			t.Errorf("%s: stopped before the second drain's deadline", state)
		}
		if o := d.step(1, nil); o.Stop != Terminate {
			t.Errorf("%s: not stopped at the second drain's deadline", state)
		}
	}
}

// What a drain had to stop is held against that drain alone.
func TestTheNextDrainEndsInItsOwnWay(t *testing.T) {
	for name, between := range map[string]func(*driver){
		"cancelled": func(d *driver) { d.step(0, d.set("Running")) },
		"suspended": func(d *driver) {},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t)
			d.machine.DrainDeadline = 10 * time.Second
			d.step(0, tasks(1))
			d.step(0, d.set("DrainAndSuspend"))
			if o := d.step(10*time.Second, nil); o.Stop != Terminate {
				t.Fatal("not stopped at the deadline")
			}
			d.step(0, tasks(0))
			between(d)
			d.step(time.Hour, d.set("DrainAndTerminate"))
			d.step(settle, nil)
			wantExit(t, d.step(0, answer("DrainAndTerminate", nil)), api.ExitDrained)
		})
	}
}

// A drain that goes from one state to the other is one drain.
func TestADrainKeepsItsDeadlineWhenItsTargetChanges(t *testing.T) {
	d := newDriver(t)
	d.machine.DrainDeadline = 10 * time.Second
	d.step(0, tasks(1))
	d.step(0, d.set("DrainAndSuspend"))
	if o := d.step(9*time.Second, d.set("DrainAndTerminate")); !o.Wake.Equal(start.Add(10 * time.Second)) {
		t.Errorf("wakes at %v, want the deadline of the drain's begin", o.Wake)
	}
}

// A fresh read that found Running belongs to the drain that it delayed.
func TestTheNextDrainDoesNotWaitForTheLastOnesRead(t *testing.T) {
	d := newDriver(t)
	d.machine.Settle = 0
	d.step(0, d.set("DrainAndTerminate"))
	if o := d.step(0, answer("Running", nil)); o.Check || !o.Wake.Equal(d.in.Now.Add(100*time.Millisecond)) {
		t.Errorf("check %v, wakes at %v, want another read after a moment", o.Check, o.Wake)
	}
	d.step(0, d.set("Running"))
	if o := d.step(0, d.set("DrainAndTerminate")); !o.Check {
		t.Error("the second drain waits for the first one's read")
	}
}

// R3: a map that was deleted and made again is the same map. What reads the
// maps keeps the time of the deletion.
func TestAMapThatWasDeletedOnceKeepsItsLastValidValue(t *testing.T) {
	again := func(value string) Snapshot {
		m := maps(value, value)
		m.Global.Gone, m.Node.Gone = start, start
		return m
	}
	for _, at := range []time.Duration{time.Second, time.Hour} { // in the window, and after it
		memory, _ := Resolve(Memory{}, maps("Running", "Running"), start, settle)
		gone := again("absent")
		memory, _ = Resolve(memory, gone, start.Add(at), settle)
		memory, _ = Resolve(memory, again("DrainAndSuspend"), start.Add(at), settle)
		_, got := Resolve(memory, again("DrainAndSuspendd"), start.Add(at+time.Second), settle)
		if got.Effective != api.DrainAndSuspend {
			t.Errorf("a typo %s after the deletion: %s, want that DrainAndSuspend stays", at, got.Effective)
		}
		for _, p := range []*Problem{got.GlobalProblem, got.NodeProblem} {
			if p == nil || !strings.Contains(p.Text, "DrainAndSuspend stays in force") {
				t.Errorf("problem %v, want that DrainAndSuspend stays in force", p)
			}
		}
	}
}

// The whole report at each point of a life: what people and `status` are told.
func TestWhatIsReported(t *testing.T) {
	drain := func(d *driver, state string, n int) Orders {
		d.step(0, tasks(n))
		return d.step(0, d.set(state))
	}
	const dat, das = api.DrainAndTerminate, api.DrainAndSuspend
	for _, test := range []struct {
		name   string
		story  func(*driver) Orders
		phase  api.Phase
		target api.State
		source api.Source
		reason string
	}{
		{"unknown", func(d *driver) Orders {
			return d.step(0, func(in *Input) { in.Maps.Global.Known = false })
		}, api.PhaseUnknown, "", "", "the maps were not read yet; no task is taken"},
		{"running", func(d *driver) Orders { return d.step(0, nil) }, api.PhaseRunning, "", api.SourceGlobal, ""},
		{"one task", func(d *driver) Orders { return drain(d, "DrainAndSuspend", 1) }, api.PhaseDraining, das, api.SourceGlobal, "1 task still runs"},
		{"two tasks", func(d *driver) Orders { return drain(d, "DrainAndTerminate", 2) }, api.PhaseDraining, dat, api.SourceGlobal, "2 tasks still run"},
		{"a fetch", func(d *driver) Orders {
			d.in.Gate = gate.Snapshot{}
			return d.step(0, d.set("DrainAndSuspend"))
		}, api.PhaseDraining, das, api.SourceGlobal, "giving back what was fetched"},
		{"suspended", func(d *driver) Orders { return drain(d, "DrainAndSuspend", 0) }, api.PhaseSuspended, "", api.SourceGlobal, ""},
		{"before the commit point", func(d *driver) Orders { return drain(d, "DrainAndTerminate", 0) },
			api.PhaseDraining, dat, api.SourceGlobal, "no task is left; making sure that DrainAndTerminate still stands"},
		{"terminated", func(d *driver) Orders { return commit(d) }, api.PhaseTerminated, "", api.SourceGlobal,
			"drained because the global map says DrainAndTerminate"},
		{"parked", func(d *driver) Orders {
			d.machine.Park = true
			return commit(d)
		}, api.PhaseTerminated, "", api.SourceGlobal, "drained and parked"},
		{"a signal and one task", func(d *driver) Orders {
			d.step(0, tasks(1))
			return d.step(0, signal)
		}, api.PhaseDraining, dat, api.SourceSignal, "1 task still runs"},
		{"a signal and no task", func(d *driver) Orders { return d.step(0, signal) }, api.PhaseTerminated, "", api.SourceSignal,
			"drained in time after a termination signal"},
		{"a task that does not end", func(d *driver) Orders {
			d.step(0, tasks(1))
			d.step(0, signal)
			d.step(25*time.Second, nil)
			return d.step(time.Minute, nil)
		}, api.PhaseDraining, dat, api.SourceSignal, "the time to drain was over; 1 task still runs, or its end could not be stored, and is not given back: another runner takes it when its claim ends"},
		{"two, and a second signal", func(d *driver) Orders {
			d.step(0, tasks(2))
			d.step(0, signal)
			d.step(time.Minute, signal)
			return d.step(time.Minute, nil)
		}, api.PhaseDraining, dat, api.SourceSignal, "forced by a second signal; 2 tasks still run, or their ends could not be stored, and are not given back: other runners take them when their claims end"},
		{"a task that was stopped", func(d *driver) Orders {
			d.step(0, tasks(1))
			d.step(0, signal)
			d.step(25*time.Second, nil)
			return d.step(time.Second, tasks(0))
		}, api.PhaseTerminated, "", api.SourceSignal, "the time to drain was over; unfinished work was requeued"},
		{"a fetch that does not end", func(d *driver) Orders {
			d.step(0, looking(0, 0))
			d.step(0, signal)
			d.step(25*time.Second, nil)
			return d.step(time.Minute, nil)
		}, api.PhaseDraining, dat, api.SourceSignal, "the time to drain was over; what was fetched may not be given back: then another runner takes it when its claim ends"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.story(newDriver(t)).Report
			if got.Phase != test.phase || got.Target != test.target || got.Source != test.source || got.Reason != test.reason {
				t.Errorf("%s to %q because of %q: %q\nwant %s to %q because of %q: %q", got.Phase, got.Target, got.Source, got.Reason,
					test.phase, test.target, test.source, test.reason)
			}
		})
	}
}

// commit goes past the commit point.
func commit(d *driver) Orders {
	d.step(0, d.set("DrainAndTerminate"))
	d.step(settle, nil)
	return d.step(0, answer("DrainAndTerminate", nil))
}

// A fresh read that comes twice is asked for once, and what was committed does
// not survive a task, or another state.
func TestTheCommitPointIsLeftAgain(t *testing.T) {
	for name, back := range map[string]func(*driver){
		"another state": func(d *driver) {
			d.step(0, d.set("DrainAndSuspend"))
			d.step(0, d.set("DrainAndTerminate"))
		},
		"a task": func(d *driver) { // which started before the gate closed
			d.step(0, tasks(1))
			d.step(0, tasks(0))
		},
	} {
		d := newDriver(t)
		d.machine.Park = true
		wantPhase(t, commit(d), api.PhaseTerminated, false)
		back(d)
		o := d.step(settle, nil)
		if wantPhase(t, o, api.PhaseDraining, false); !o.Check {
			t.Errorf("%s: no fresh read before the runner is terminated again", name)
		}
	}
}

// R11: what a signal outweighs is shown, unless it says the same.
func TestWhatASignalShadows(t *testing.T) {
	for _, test := range []struct {
		global, node string
		want         *api.Shadowed
	}{
		{"absent", "absent", nil},
		{"Running", "absent", &api.Shadowed{Source: api.SourceGlobal, Value: api.Running}},
		{"Running", "DrainAndSuspend", &api.Shadowed{Source: api.SourceNode, Value: api.DrainAndSuspend}},
		{"DrainAndTerminate", "absent", nil},
		{"Running", "DrainAndTerminate", nil},
	} {
		d := newDriver(t)
		d.step(0, func(in *Input) { in.Maps = maps(test.global, test.node) })
		got := d.step(0, signal).Report
		if (got.Shadowed == nil) != (test.want == nil) || got.Shadowed != nil && *got.Shadowed != *test.want {
			t.Errorf("global %s, node %s: shadowed %v, want %v", test.global, test.node, got.Shadowed, test.want)
		}
		if got.ResourceVersion != "" {
			t.Errorf("global %s, node %s: version %q, want none of a signal", test.global, test.node, got.ResourceVersion)
		}
	}
	d := newDriver(t)
	d.in.Maps.Global.Known = false
	if got := d.step(0, signal).Report; got.Shadowed != nil {
		t.Errorf("before the maps were read: shadowed %v", got.Shadowed)
	}
}

// The version reported is that of the map in force.
func TestTheVersionIsThatOfTheMapInForce(t *testing.T) {
	m := maps("Running", "DrainAndSuspend")
	m.Global.ResourceVersion, m.Node.ResourceVersion = "5", "6"
	if _, got := Resolve(Memory{}, m, start, settle); got.ResourceVersion != "6" {
		t.Errorf("version %q, want the node map's", got.ResourceVersion)
	}
	m.Node.Value = ""
	if _, got := Resolve(Memory{}, m, start, settle); got.ResourceVersion != "5" {
		t.Errorf("version %q, want the global map's", got.ResourceVersion)
	}
}

// A machine that forgets what was in force cannot keep it: R3, R4.
func TestTheMachineRemembersWhatWasInForce(t *testing.T) {
	d := newDriver(t)
	d.step(0, d.set("DrainAndSuspend"))
	wantPhase(t, d.step(0, d.set("DrainAndSuspendd")), api.PhaseSuspended, false)
	wantPhase(t, d.step(0, func(in *Input) { in.Maps.Global.Known = false }), api.PhaseSuspended, false)
}

// Of two times at which something changes by itself, the earlier one counts.
func TestTheEarlierWindowWakes(t *testing.T) {
	for _, late := range []time.Duration{0, time.Second} {
		memory, _ := Resolve(Memory{}, maps("DrainAndSuspend", "DrainAndSuspend"), start, settle)
		m := maps("absent", "absent")
		m.Global.Gone, m.Node.Gone = start.Add(late), start.Add(time.Second-late)
		if _, got := Resolve(memory, m, start.Add(time.Second), settle); !got.Wake.Equal(start.Add(settle)) {
			t.Errorf("wakes at %v, want the end of the first window", got.Wake)
		}
	}
}

// A fetch that is under way when the time is over is no task: nothing was stopped. But one
// that does not end does not keep the runner.
func TestATimeThatEndsDuringAFetchStopsNoTask(t *testing.T) {
	for name, test := range map[string]struct {
		change func(d *driver) Orders // what ends the time at once
		code   int
	}{
		"a signal, and no grace": {func(d *driver) Orders {
			d.machine.GracePeriod = 0
			return d.step(0, signal)
		}, api.ExitSignalled},
		"a drain with a deadline": {func(d *driver) Orders {
			d.machine.DrainDeadline = 1
			d.step(0, d.set("DrainAndTerminate"))
			return d.step(1, nil)
		}, api.ExitDrained},
	} {
		for _, ends := range []bool{true, false} {
			d := newDriver(t)
			d.step(0, looking(0, 0))
			if o := test.change(d); o.Stop != Terminate || o.Exit != nil {
				t.Errorf("%s: stop %v, exit %v, while a fetch is under way", name, o.Stop, o.Exit)
			}
			code := api.ExitUnfinished
			o := Orders{}
			if ends {
				code = test.code
				if o = d.step(0, tasks(0)); code == api.ExitDrained {
					d.step(settle, nil)
					o = d.step(0, answer("DrainAndTerminate", nil))
				}
			} else {
				o = d.step(d.machine.KillDelay+AbandonAfter, nil)
			}
			if wantExit(t, o, code); o.Exit == nil || o.Exit.Code != code {
				t.Errorf("of %s, whose fetch ends: %v", name, ends)
			}
		}
	}
}
