package lifecycle_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	. "github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

const settle = 2 * time.Second

var start = time.Unix(1_700_000_000, 0)

// view is a readable map; "absent" is none and "keyless" one without STATE.
func view(name, value string) View {
	v := View{Name: name, Known: true, Present: true, Value: value, ResourceVersion: "7"}
	switch value {
	case "absent":
		v.Present, v.Value = false, ""
	case "keyless":
		v.Value = ""
	}
	return v
}

func maps(global, node string) Snapshot {
	return Snapshot{Global: view(api.GlobalMapName, global), Node: view("node-1", node)}
}

// catalogue: row 16
func TestEveryPairOfMaps(t *testing.T) {
	unset := []string{"absent", "keyless", "", "bogus"}
	states := []string{"Running", "DrainAndTerminate", "DrainAndSuspend"}
	isSet := func(s string) bool { return len(s) > 0 && (s[0] == 'R' || s[0] == 'D') }
	all := append(append([]string{}, unset...), states...)
	for _, global := range all {
		for _, node := range all {
			want, source := "Running", api.SourceDefault
			if isSet(global) {
				want, source = global, api.SourceGlobal
			}
			if isSet(node) {
				want, source = node, api.SourceNode
			}
			_, got := Resolve(Memory{}, maps(global, node), start, settle)
			if string(got.Effective) != want || got.Source != source {
				t.Errorf("global %q, node %q: got %s from %s, want %s from %s", global, node, got.Effective, got.Source, want, source)
			}
			wantShadow := isSet(global) && isSet(node) && global != node
			if (got.Shadowed != nil) != wantShadow {
				t.Errorf("global %q, node %q: shadowed %v, want one: %v", global, node, got.Shadowed, wantShadow)
			}
			if (got.GlobalProblem != nil) != (global == "bogus") || (got.NodeProblem != nil) != (node == "bogus") {
				t.Errorf("global %q, node %q: problems %v and %v", global, node, got.GlobalProblem, got.NodeProblem)
			}
		}
	}
}

// The history of valid values must not matter, nor the order of events, nor
// whether the node map's name sorts before or after the global one.
//
// catalogue: row 25
func TestTheEffectiveStateDependsOnThePresentMapsOnly(t *testing.T) {
	values := []string{"keyless", "", "Running", "DrainAndTerminate", "DrainAndSuspend"}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var memory Memory
		var got Resolution
		global, node := "keyless", "keyless"
		nodeName := []string{"a-node", "z-node", "studioml-go-runner-0"}[r.IntN(3)]
		for range r.IntN(8) {
			if r.IntN(2) == 0 {
				global = values[r.IntN(len(values))]
			} else {
				node = values[r.IntN(len(values))]
			}
			m := maps(global, node)
			m.Node.Name = nodeName
			memory, got = Resolve(memory, m, start, settle)
		}
		m := maps(global, node)
		m.Node.Name = nodeName
		_, got = Resolve(memory, m, start, settle)
		_, want := Resolve(Memory{}, m, start, settle)
		if got.Effective != want.Effective || got.Source != want.Source {
			t.Fatalf("global %q, node %q: %s from %s after a history, %s from %s without",
				global, node, got.Effective, got.Source, want.Effective, want.Source)
		}
	}
}

// catalogue: row 31
func TestAnInvalidValueKeepsTheLastValidOneOfThatMap(t *testing.T) {
	for _, value := range []string{"running", "RUNNING", "Unknown", "Abort", "true", "0", "Drain and suspend", "DrainAndTerminate,Running"} {
		memory, _ := Resolve(Memory{}, maps("DrainAndSuspend", "keyless"), start, settle)
		memory, got := Resolve(memory, maps(value, "keyless"), start, settle)
		if got.Effective != api.DrainAndSuspend || got.Source != api.SourceGlobal {
			t.Errorf("%q after DrainAndSuspend: %s from %s", value, got.Effective, got.Source)
		}
		if p := got.GlobalProblem; p == nil || p.Kind != ProblemInvalid || !strings.Contains(p.Text, "DrainAndSuspend stays in force") {
			t.Errorf("%q: problem %v does not say what stays in force", value, p)
		}
		// The other map's valid value must not be taken for this one's.
		_, got = Resolve(memory, maps(value, "Running"), start, settle)
		if got.Effective != api.Running || got.Shadowed == nil || got.Shadowed.Value != api.DrainAndSuspend {
			t.Errorf("%q under node Running: %s, shadowed %v", value, got.Effective, got.Shadowed)
		}
	}
	// A map that was removed had nothing left to keep.
	memory, _ := Resolve(Memory{}, maps("DrainAndSuspend", "absent"), start, settle)
	memory, _ = Resolve(memory, maps("keyless", "absent"), start, settle)
	if _, got := Resolve(memory, maps("bogus", "absent"), start, settle); got.Effective != api.Running {
		t.Errorf("bogus after unset: %s, want Running", got.Effective)
	}
}

func TestANearMissGetsAHint(t *testing.T) {
	for value, want := range map[string]string{
		"running": "did you mean Running?", "Runing": "did you mean Running?",
		"drain-and-suspend": "did you mean DrainAndSuspend?", "DrainAndTerminated": "did you mean DrainAndTerminate?",
		"Drain": "", "Abort": "", "0": "",
	} {
		_, err := api.ParseState(value)
		if err == nil {
			t.Errorf("ParseState(%q) is no error", value)
		} else if has := strings.Contains(err.Error(), "did you mean"); has != (want != "") || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseState(%q) = %v, want hint %q", value, err, want)
		}
	}
}

// catalogue: row 33
func TestHostileValuesAreShownEscapedAndShort(t *testing.T) {
	for name, value := range map[string]string{
		"1 MiB":    strings.Repeat("A", 1<<20),
		"NUL":      "Run\x00ning",
		"ANSI":     "\x1b[2J\x1b[31mRunning",
		"newlines": "Running\nlevel=ERROR msg=forged",
		"bidi":     "\u202egninnuR",
		"invalid":  "\xff\xfe",
	} {
		_, got := Resolve(Memory{}, maps(value, "absent"), start, settle)
		if got.GlobalProblem == nil {
			t.Errorf("%s: no problem", name)
			continue
		}
		text := got.GlobalProblem.Text
		if len(text) > 500 {
			t.Errorf("%s: the problem has %d bytes", name, len(text))
		}
		for _, r := range text {
			if r < ' ' || r == 0x7f || (r > 0x7f && r != '…') {
				t.Errorf("%s: the problem holds %q unescaped: %s", name, r, text)
				break
			}
		}
	}
}

func TestWhiteSpaceAroundAValueDoesNotCount(t *testing.T) {
	for _, value := range []string{"Running\n", " DrainAndSuspend ", "\tDrainAndTerminate\r\n"} {
		_, got := Resolve(Memory{}, maps(value, "absent"), start, settle)
		if string(got.Effective) != strings.TrimSpace(value) || got.GlobalProblem != nil {
			t.Errorf("%q: %s, problem %v", value, got.Effective, got.GlobalProblem)
		}
	}
	if _, got := Resolve(Memory{}, maps("DrainAndSuspend", " \n"), start, settle); got.Source != api.SourceGlobal {
		t.Errorf("blank node value: source %s, want global", got.Source)
	}
}

func TestAStateInBinaryDataIsUnsetAndAWarning(t *testing.T) {
	m := maps("keyless", "absent")
	m.Global.InBinaryData = true
	_, got := Resolve(Memory{Global: api.DrainAndSuspend, Known: true}, m, start, settle)
	if got.Effective != api.Running || got.GlobalProblem == nil || got.GlobalProblem.Kind != ProblemBinary {
		t.Errorf("got %s, problem %v", got.Effective, got.GlobalProblem)
	}
}

func TestNothingIsKnownBeforeBothMapsWereRead(t *testing.T) {
	for name, change := range map[string]func(*Snapshot){
		"global": func(s *Snapshot) { s.Global.Known = false },
		"node":   func(s *Snapshot) { s.Node.Known = false },
		"both":   func(s *Snapshot) { s.Global.Known, s.Node.Known = false, false },
	} {
		m := maps("Running", "Running")
		change(&m)
		if _, got := Resolve(Memory{}, m, start, settle); got.Effective != api.Unset {
			t.Errorf("without %s: %s, want unknown", name, got.Effective)
		}
	}
	m := maps("DrainAndSuspend", "absent")
	m.Node = View{} // node scope is off
	if _, got := Resolve(Memory{}, m, start, settle); got.Effective != api.DrainAndSuspend {
		t.Errorf("without node scope: %s", got.Effective)
	}
}

func TestANodeMapThatMayNotBeReadIsLeftOutAfterTheWindow(t *testing.T) {
	m := maps("DrainAndSuspend", "absent")
	m.Node.Known, m.Node.Denied, m.Node.Unreadable = false, start, "forbidden"
	if _, got := Resolve(Memory{}, m, start.Add(settle-1), settle); got.Effective != api.Unset || !got.Wake.Equal(start.Add(settle)) {
		t.Errorf("within the window: %s, wake %v", got.Effective, got.Wake)
	}
	_, got := Resolve(Memory{}, m, start.Add(settle), settle)
	if got.Effective != api.DrainAndSuspend || got.NodeProblem == nil || got.NodeProblem.Kind != ProblemUnreadable {
		t.Errorf("after the window: %s, problem %v", got.Effective, got.NodeProblem)
	}
}

func TestAnUnreadableMapKeepsItsValue(t *testing.T) {
	memory, _ := Resolve(Memory{}, maps("DrainAndSuspend", "Running"), start, settle)
	m := maps("DrainAndSuspend", "Running")
	m.Global.Unreadable, m.Node.Unreadable = "down", "down"
	if _, got := Resolve(memory, m, start.Add(time.Hour), settle); got.Effective != api.Running || got.Source != api.SourceNode || got.NodeProblem == nil {
		t.Errorf("got %s from %s, problem %v", got.Effective, got.Source, got.NodeProblem)
	}
}

func TestADeletedMapKeepsItsEffectForTheWindow(t *testing.T) {
	memory, _ := Resolve(Memory{}, maps("Running", "DrainAndSuspend"), start, settle)
	m := maps("Running", "absent")
	m.Node.Gone = start
	memory, got := Resolve(memory, m, start.Add(settle-1), settle)
	if got.Effective != api.DrainAndSuspend || !got.Wake.Equal(start.Add(settle)) {
		t.Errorf("within the window: %s, wake %v", got.Effective, got.Wake)
	}
	// Created again in time: one clean transition.
	if _, got := Resolve(memory, maps("Running", "DrainAndTerminate"), start.Add(settle-1), settle); got.Effective != api.DrainAndTerminate {
		t.Errorf("created again: %s", got.Effective)
	}
	if _, got := Resolve(memory, m, start.Add(settle), settle); got.Effective != api.DrainAndSuspend || !got.Doubtful {
		t.Errorf("after the window, unconfirmed: %s, asks for a fresh read: %v", got.Effective, got.Doubtful)
	}
	early := memory
	early.Confirm(m, FreshRead{Maps: maps("Running", "absent"), Began: start.Add(settle - 1)}, settle)
	if _, got := Resolve(early, m, start.Add(time.Hour), settle); got.Effective != api.DrainAndSuspend || !got.Doubtful {
		t.Errorf("confirmed by a read of within the window: %s", got.Effective)
	}
	memory.Confirm(m, FreshRead{Maps: maps("Running", "absent"), Began: start.Add(settle)}, settle)
	if _, got := Resolve(memory, m, start.Add(settle), settle); got.Effective != api.Running || got.Source != api.SourceGlobal {
		t.Errorf("after the window: %s from %s", got.Effective, got.Source)
	}
	// The next deletion has a window of its own.
	m.Node.Gone = start.Add(time.Minute)
	memory.Node = api.DrainAndTerminate
	if _, got := Resolve(memory, m, start.Add(time.Minute), settle); got.Effective != api.DrainAndTerminate || got.Doubtful {
		t.Errorf("deleted once more: %s", got.Effective)
	}
}

// R4 outranks R6: nothing starts because everything is being deleted.
func TestADeletionThatNoFreshReadConfirmsIsNone(t *testing.T) {
	m := maps("absent", "absent")
	m.Namespace, m.Global.Gone = "lab", start
	for want, fresh := range map[string]FreshRead{
		"403 Forbidden":                    {Err: errors.New("403 Forbidden")},
		`namespace "lab" is being deleted`: {Maps: Snapshot{Ending: true, Global: View{Known: true}, Node: View{Known: true}}},
		"":                                 {Maps: maps("DrainAndSuspend", "absent")}, // it is back, the watch is late
	} {
		memory := Memory{Global: api.DrainAndSuspend, Known: true, Doubt: "the read before"}
		fresh.Began = start.Add(time.Hour)
		memory.Confirm(m, fresh, settle)
		_, got := Resolve(memory, m, start.Add(time.Hour), settle)
		if got.Effective != api.DrainAndSuspend || !got.Doubtful {
			t.Errorf("%q: %s", want, got.Effective)
		}
		if told := got.GlobalProblem; (told != nil) != (want != "") || told != nil && (told.Kind != ProblemUnreadable || !strings.HasSuffix(told.Text, want)) {
			t.Errorf("problem %v, want one with %q", told, want)
		}
	}
	// The read before the exit takes it likewise.
	if _, got := Resolve(Memory{Global: api.DrainAndTerminate, Known: true}, Snapshot{Ending: true, Global: View{Known: true}}, start, 0); got.Effective != api.DrainAndTerminate {
		t.Errorf("read afresh in a namespace that is being deleted: %s", got.Effective)
	}
}

// A key that is not STATE does nothing, and nobody must believe it did.
func TestAKeyInsteadOfStateIsTold(t *testing.T) {
	m := maps("keyless", "absent")
	m.Global.Instead = "state"
	_, got := Resolve(Memory{Global: api.DrainAndSuspend, Known: true}, m, start, settle)
	if p := got.GlobalProblem; got.Effective != api.Running || p == nil || p.Kind != ProblemKey || !strings.Contains(p.Text, `a key "state"`) {
		t.Errorf("%s, problem %v", got.Effective, p)
	}
}

func TestWithoutAClusterTheRunnerRuns(t *testing.T) {
	if _, got := Resolve(Memory{}, Snapshot{Off: true}, start, settle); got.Effective != api.Running || got.Source != api.SourceDefault {
		t.Errorf("got %s from %s", got.Effective, got.Source)
	}
}
