package lifecycle_test

import (
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	. "github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// noted is maps with annotations in both.
func noted(global, node, why, deadline string) Snapshot {
	m := maps(global, node)
	m.Global.Why, m.Global.Deadline = why, deadline
	m.Node.Why, m.Node.Deadline = "the node's", "7s"
	return m
}

// The annotations of the map whose STATE is in force count, and of no other.
//
// catalogue: row 82
func TestNotesOfTheMapInForce(t *testing.T) {
	for _, test := range []struct {
		global, node string
		want         Notes
	}{
		{"DrainAndSuspend", "absent", Notes{"why", "1h"}},
		{"DrainAndSuspend", "keyless", Notes{"why", "1h"}},
		{"DrainAndSuspend", "bogus", Notes{"why", "1h"}},
		{"DrainAndSuspend", "Running", Notes{"the node's", "7s"}},
		{"keyless", "absent", Notes{}},
		{"bogus", "keyless", Notes{}},
	} {
		_, got := Resolve(Memory{}, noted(test.global, test.node, " why\n", "1h "), start, settle)
		if got.Notes != test.want {
			t.Errorf("global %s, node %s: %+v, want %+v", test.global, test.node, got.Notes, test.want)
		}
	}
}

// An invalid annotation changes nothing, and is said; one that is taken away is gone.
func TestInvalidNotes(t *testing.T) {
	for problem, text := range map[string]Notes{
		"has 301 characters; must be at most 300":                                          {strings.Repeat("ä", 301), "1h"},
		`studioml.io/reason is "a\x1b[2Jb"; must be one line of text`:                      {"a\x1b[2Jb", "1h"},
		`studioml.io/reason is "\xff"; must be one line of text`:                           {"\xff", "1h"},
		`studioml.io/drain-deadline is "soon"; must be a duration that is not negative`:    {"why", "soon"},
		`studioml.io/drain-deadline is "-1s"; must be a duration that is not negative, as`: {"why", "-1s"},
	} {
		memory, _ := Resolve(Memory{}, noted("DrainAndSuspend", "absent", "why", "1h"), start, settle)
		memory, got := Resolve(memory, noted("DrainAndSuspend", "absent", text.Why, text.Deadline), start, settle)
		if got.Notes != (Notes{"why", "1h"}) || got.Effective != api.DrainAndSuspend {
			t.Errorf("%s: %+v", problem, got)
		}
		if p := got.GlobalProblem; p == nil || p.Kind != ProblemAnnotation || !strings.Contains(p.Text, problem) || len(p.Text) > 500 {
			t.Errorf("%+v, want %q", p, problem)
		}
		if _, got := Resolve(memory, noted("DrainAndSuspend", "absent", "", ""), start, settle); got.Notes != (Notes{}) || got.GlobalProblem != nil {
			t.Errorf("without annotations: %+v", got)
		}
	}
	if _, got := Resolve(Memory{}, noted("DrainAndSuspend", "absent", strings.Repeat("ä", 300), "0s"), start, settle); got.GlobalProblem != nil {
		t.Errorf("%+v", got.GlobalProblem)
	}
}

// A map that is deleted keeps its annotations for as long as its STATE.
func TestNotesOfADeletedMap(t *testing.T) {
	memory, _ := Resolve(Memory{}, noted("DrainAndSuspend", "absent", "why", "1h"), start, settle)
	m := maps("absent", "absent")
	m.Global.Gone = start
	memory, got := Resolve(memory, m, start, settle)
	if got.Notes != (Notes{"why", "1h"}) {
		t.Errorf("%+v", got.Notes)
	}
	memory.Global = api.Unset // as Confirm has it
	memory, got = Resolve(memory, m, start, settle)
	if got.Notes != (Notes{}) || memory.GlobalNotes != (Notes{}) {
		t.Errorf("%+v", got.Notes)
	}
}

// The deadline of the map outranks the flag, counts from the begin of the drain, and may
// change; a reason is a part of the last sentence.
func TestTheDeadlineOfAMap(t *testing.T) {
	for _, flag := range []time.Duration{0, time.Second, time.Hour} {
		d := newDriver(t)
		d.machine.DrainDeadline = flag
		d.step(0, tasks(1))
		say := func(deadline string) func(*Input) {
			return func(in *Input) { in.Maps = noted("DrainAndTerminate", "absent", "kernel upgrade", deadline) }
		}
		if o := d.step(0, say("10m")); o.Stop != LeaveAlone || !o.Wake.Equal(d.in.Now.Add(10*time.Minute)) {
			t.Errorf("flag %s: stop %v, wake %v", flag, o.Stop, o.Wake)
		}
		if o := d.step(9*time.Minute, say("0s")); o.Stop != LeaveAlone || !o.Wake.IsZero() {
			t.Errorf("flag %s, no deadline: stop %v, wake %v", flag, o.Stop, o.Wake)
		}
		d.step(time.Hour, nil)
		if o := d.step(0, say("2h")); o.Stop != LeaveAlone || !o.Wake.Equal(d.in.Now.Add(51*time.Minute)) {
			t.Errorf("flag %s, longer: stop %v, wake in %s", flag, o.Stop, o.Wake.Sub(d.in.Now))
		}
		if o := d.step(0, say("1h")); o.Stop != Terminate {
			t.Errorf("flag %s, shorter: stop %v", flag, o.Stop)
		}
		d.step(0, tasks(0))
		o := d.step(settle, func(in *Input) { in.Fresh = &FreshRead{Maps: noted("DrainAndTerminate", "absent", "", "")} })
		wantExit(t, o, api.ExitUnfinished)
		if o.Exit == nil || o.Exit.Message != "the drain deadline passed; unfinished work was requeued: kernel upgrade" {
			t.Errorf("%+v", o.Exit)
		}
	}
}

// What outweighs the maps needs no reason of theirs.
func TestASignalHasNoReason(t *testing.T) {
	d := newDriver(t)
	d.step(0, func(in *Input) { in.Maps = noted("DrainAndSuspend", "absent", "kernel upgrade", "1h"); signal(in) })
	o := d.step(0, nil)
	if wantExit(t, o, api.ExitSignalled); o.Report.Notes != (Notes{}) || strings.Contains(o.Exit.Message, "kernel") {
		t.Errorf("%+v: %+v", o.Report.Notes, o.Exit)
	}
}
