package main

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

const second = Instant(time.Second)

// clock is the runner's, for an instant.
func clock(i Instant) time.Time { return time.Unix(1_000_000, int64(i)) }

// good is a record in which all is well: a task that ended, one that is a dead
// letter, one that was interrupted by KILL and ran again, one on a GPU; a drain by
// the global map, and its end; an exit by STATE, one by TERM.
func good() *Record {
	note := func(what string, at Instant, task string, attempt int, life, rest string) Note {
		return Note{what, at * second, task, attempt, life, rest}
	}
	status := func(at Instant, phase api.Phase, version string, inFlight ...api.InFlight) Said {
		return Said{at * second, api.Status{Time: clock(at * second), Phase: phase, Source: api.SourceGlobal, InFlight: inFlight,
			Maps: api.Maps{Global: &api.MapStatus{ResourceVersion: version}}}}
	}
	succeeded := func(task string, attempt int) api.Result {
		return api.Result{Task: task, Attempt: attempt, Outcome: api.Succeeded}
	}
	return &Record{
		Tasks: []Task{{ID: "ok", Attempts: 3}, {ID: "bad", Attempts: 2}, {ID: "again", Attempts: 3}, {ID: "gpu", Attempts: 3}, {ID: "late", Attempts: 3}},
		Notes: []Note{
			note("start", 1, "ok", 1, "a.1", "-"), note("end", 2, "ok", 1, "a.1", "0"),
			note("start", 1, "bad", 1, "a.1", "-"), note("end", 2, "bad", 1, "a.1", "1"),
			note("start", 3, "bad", 2, "a.1", "-"), note("end", 4, "bad", 2, "a.1", "1"),
			note("start", 5, "again", 1, "b.1", "-"),
			note("start", 8, "again", 2, "b.2", "-"), note("end", 9, "again", 2, "b.2", "0"),
			note("start", 8, "gpu", 1, "b.2", "GPU-1"),
			note("start", 14, "gpu", 2, "b.2", "GPU-2"), note("end", 15, "gpu", 2, "b.2", "0"),
			note("start", 60, "late", 1, "b.2", "-"), note("end", 61, "late", 1, "b.2", "0"),
		},
		Struck: []Struck{{Strike: Strike{Kind: "gpu-xid"}, Begin: 9 * second, End: 10 * second, GPU: "GPU-1"}},
		Writes: []Write{
			{Begin: 20 * second, End: 21 * second, Map: api.GlobalMapName, Value: "DrainAndTerminate", Version: 7},
			{Begin: 50 * second, End: 51 * second, Map: api.GlobalMapName, Value: "Running", Version: 9},
		},
		Lives: []Life{
			{Name: "a.1", Runner: "a", Start: 0, End: 25 * second, Code: 0, Said: []Said{status(22, api.PhaseDraining, "7")}},
			{Name: "b.1", Runner: "b", Start: 0, End: 7 * second, Code: -1, Killed: syscall.SIGKILL, Sent: []Sent{{6 * second, syscall.SIGKILL}}},
			{Name: "b.2", Runner: "b", Start: 7 * second, End: 72 * second, Code: 143, Sent: []Sent{{70 * second, syscall.SIGTERM}},
				Said: []Said{status(22, api.PhaseSuspended, "7"), status(52, api.PhaseRunning, "9"), {70 * second, api.Status{Time: clock(70 * second), Phase: api.PhaseDraining, Source: api.SourceSignal}}}},
		},
		Results: []api.Result{succeeded("ok", 1), succeeded("again", 2), succeeded("gpu", 2), succeeded("late", 1),
			{Task: "bad", Attempt: 1, Outcome: api.Failed}, {Task: "bad", Attempt: 2, Outcome: api.Failed}},
		Dead: map[string]api.DeadLetter{"bad": {Reason: "attempt 2: exit status 1"}},
	}
}

// b2 is the life that most of the faults are planted in.
func b2(r *Record) *Life { return &r.Lives[2] }

// runs adds a task that runs on b.2 in a certain second, and nothing of which is wrong
// but perhaps that.
func (r *Record) runs(at Instant) {
	r.Tasks = append(r.Tasks, Task{ID: "more", Attempts: 3})
	r.Notes = append(r.Notes, Note{"start", at * second, "more", 1, "b.2", "-"}, Note{"end", at*second + 1, "more", 1, "b.2", "0"})
	r.Results = append(r.Results, api.Result{Task: "more", Attempt: 1, Outcome: api.Succeeded})
}

// deleted has a.1 suspended by its own map, and drained by the deletion of that.
func (r *Record) deleted(at, end Instant) {
	r.Writes = slices.Insert(r.Writes, 1, Write{Begin: at, End: at + 1, Map: "a"})
	r.Writes = slices.Insert(r.Writes, 0, Write{Begin: 19 * second, End: 19*second + 1, Map: "a", Value: "DrainAndSuspend"})
	r.Lives[0].End = end
}

func TestEachClauseFindsWhatBreaksIt(t *testing.T) {
	for name, test := range map[string]struct {
		clause string // none where nothing is wrong
		plant  func(r *Record)
	}{
		"all is well":         {"", func(*Record) {}},
		"a result is missing": {Lost, func(r *Record) { r.Results = r.Results[1:] }},
		"a letter is missing": {Lost, func(r *Record) { r.Dead = nil }},
		"two results":         {OneResult, func(r *Record) { r.Results = append(r.Results, r.Results[0]) }},
		"a result and a letter": {OneResult, func(r *Record) {
			r.Notes = append(r.Notes, Note{"start", 5 * second, "bad", 3, "a.1", "-"}, Note{"end", 6 * second, "bad", 3, "a.1", "0"})
			r.Results = append(r.Results, api.Result{Task: "bad", Attempt: 3, Outcome: api.Succeeded})
		}},
		"a result of a failure":   {TrueWord, func(r *Record) { r.Notes[1].Rest = "1" }},
		"a result without an end": {TrueWord, func(r *Record) { r.Results[0].Attempt = 2 }},
		"a letter too early":      {TrueWord, func(r *Record) { r.Tasks[1].Attempts = 3 }},
		"a letter after deaths": {"", func(r *Record) {
			r.Results, r.Dead["again"] = slices.Delete(r.Results, 1, 2), api.DeadLetter{Reason: "10 runners died"}
			r.Notes = slices.Delete(r.Notes, 7, 9)
			for i := range deaths - 1 {
				r.Notes = append(r.Notes, Note{"start", 5*second + Instant(i) + 1, "again", i + 2, "b.1", "-"})
			}
			r.Lives[1].End, r.Lives[1].Sent[0].At = 5*second, 5*second // when all of them were its
		}},
		"again without a reason": {Repeat, func(r *Record) {
			r.Notes = append(r.Notes, Note{"start", 16 * second, "gpu", 3, "b.2", "-"}, Note{"end", 17 * second, "gpu", 3, "b.2", "0"})
		}},
		"again before the death":                {Repeat, func(r *Record) { r.Lives[1].End = 9 * second; r.Lives[1].Sent[0].At = 8*second + 1 }},
		"again, and its end was heard of later": {"", func(r *Record) { r.Lives[1].End = 9 * second }},
		"again, its GPU was well": {Repeat, func(r *Record) {
			r.Struck[0].GPU = "GPU-3"
			r.Notes = append(r.Notes, Note{"end", 9 * second, "gpu", 1, "b.2", "0"})
		}},
		"again after TERM": {"", func(r *Record) {
			r.Lives[1].Killed, r.Lives[1].Code = 0, 10
			r.Lives[1].Sent[0].Signal = syscall.SIGTERM
		}},
		"a start after the gate": {LateStart, func(r *Record) { r.runs(30) }},
		"a start that had begun": {"", func(r *Record) {
			r.runs(30)
			b2(r).Said[0].Status.InFlight = []api.InFlight{{ID: "more", Attempt: 1, Started: clock(21 * second)}}
		}},
		"a start that began later": {LateStart, func(r *Record) {
			r.runs(23)
			b2(r).Said[1].Status.InFlight = []api.InFlight{{ID: "more", Attempt: 1, Started: clock(23 * second)}}
		}},
		"a start before the news": {"", func(r *Record) { r.runs(30); b2(r).Said[0].Status.Maps.Global.ResourceVersion = "6" }},
		"a start after the signal": {LateStart, func(r *Record) {
			r.runs(71)
			b2(r).End = 80 * second
			r.Notes[len(r.Notes)-2].At += 2 * second
			r.Notes[len(r.Notes)-1].At += 2 * second
		}},
		"a start with an open gate":  {"", func(r *Record) { r.runs(55) }},
		"an exit long after Running": {Unasked, func(r *Record) { r.Lives[0].End = 60 * second }},
		"an exit without a drain":    {Unasked, func(r *Record) { r.Writes = r.Writes[1:] }},
		"an exit after a blip": {Unasked, func(r *Record) {
			r.Writes[1].Begin, r.Writes[1].End = 20*second+1, 20*second+second/10
			r.Lives[0].End, r.Lives[0].Said, b2(r).Said = 21*second, nil, nil
		}},
		"an exit before the window": {Unasked, func(r *Record) {
			r.Writes[0].End, r.Lives[0].End, r.Lives[0].Said = 20*second+1, 20*second+second/10, nil
		}},
		"an exit a window after a deletion": {Unasked, func(r *Record) { r.deleted(23*second, 23*second+second*3/10) }},
		"an exit two windows after it":      {"", func(r *Record) { r.deleted(23*second, 23*second+second/2) }},
		"a start after a deletion, and an exit a window later": {"", func(r *Record) {
			r.deleted(23*second, 23*second+second*3/10)
			r.Lives[0].Said = nil
		}},
		"an exit in an outage": {"", func(r *Record) {
			r.Lives[0].End = 60 * second
			r.Struck = append(r.Struck, Struck{Strike: Strike{Kind: "api-killed"}, Begin: 40 * second, End: 60 * second})
		}},
		"0 with a task":           {ExitCode, func(r *Record) { r.Lives[0].End = 3500 * second / 1000; r.Writes[0].Begin = second }},
		"0 after a signal":        {ExitCode, func(r *Record) { r.Lives[0].Sent = []Sent{{14 * second, syscall.SIGTERM}} }},
		"0, signalled as it ends": {"", func(r *Record) { r.Lives[0].Sent = []Sent{{22 * second, syscall.SIGTERM}} }},
		"143 without a signal":    {ExitCode, func(r *Record) { b2(r).Sent = nil }},
		"10 without a signal":     {ExitCode, func(r *Record) { b2(r).Code, b2(r).Sent = 10, nil }},
		"11 after one signal":     {ExitCode, func(r *Record) { b2(r).Code = 11 }},
		"11 after two at once": {ExitCode, func(r *Record) {
			b2(r).Code = 11
			b2(r).Sent = append(b2(r).Sent, Sent{70*second + second/100, syscall.SIGTERM})
		}},
		"11 after two":    {"", func(r *Record) { b2(r).Code = 11; b2(r).Sent = append(b2(r).Sent, Sent{71 * second, syscall.SIGTERM}) }},
		"1 in the middle": {ExitCode, func(r *Record) { b2(r).Code = 1 }},
		"1 at a start without disk": {"", func(r *Record) {
			r.Lives = append(r.Lives, Life{Name: "c.1", Start: 9 * second, End: 10 * second, Code: 1})
			r.Struck = append(r.Struck, Struck{Strike: Strike{Kind: "disk-hidden"}, Begin: 8 * second, End: 11 * second})
		}},
		"a crash":              {ExitCode, func(r *Record) { b2(r).Code = 2 }},
		"a signal nobody sent": {ExitCode, func(r *Record) { b2(r).Code, b2(r).Killed = -1, syscall.SIGPIPE }},
		"TERM before main": {"", func(r *Record) {
			r.Lives = append(r.Lives, Life{Name: "c.1", Start: second, End: 5 * second, Code: -1, Killed: syscall.SIGTERM, Sent: []Sent{{4 * second, syscall.SIGTERM}}})
		}},
		"TERM later": {ExitCode, func(r *Record) {
			r.Lives = append(r.Lives, Life{Name: "c.1", Start: second, End: 9 * second, Code: -1, Killed: syscall.SIGTERM, Sent: []Sent{{8 * second, syscall.SIGTERM}}, Message: "it had no time"})
		}},
		"an unknown code":   {ExitCode, func(r *Record) { b2(r).Code = 66 }},
		"a GPU twice":       {HeldTwice, func(r *Record) { r.Notes = append(r.Notes, Note{"held", 8 * second, "gpu", 1, "b.2", "GPU-1"}) }},
		"something is left": {Left, func(r *Record) { r.Left = []string{"disk/spool/held/x is left"} }},
	} {
		r := good()
		test.plant(r)
		var found []string
		problems := Check(r)
		for _, p := range problems {
			found = append(found, p.Clause)
		}
		if found = slices.Compact(found); test.clause == "" && len(found) > 0 || test.clause != "" && !slices.Equal(found, []string{test.clause}) {
			t.Errorf("%s: found %q, want %q", name, problems, test.clause)
		}
	}
}

func TestThePlanIsAFunctionOfTheSeed(t *testing.T) {
	one, same, other := NewPlan(7, long, faults[inServer]), NewPlan(7, long, faults[inServer]), NewPlan(8, long, faults[inServer])
	if !slices.Equal(one.Tasks, same.Tasks) || !slices.Equal(one.Strikes, same.Strikes) {
		t.Error("the same seed makes two plans")
	}
	if slices.Equal(one.Tasks, other.Tasks) || slices.Equal(one.Strikes, other.Strikes) {
		t.Error("two seeds make the same plan")
	}
}

// The long form strikes with each kind of fault while each kind of task should run.
func TestTheLongPlanHasNoEmptyCell(t *testing.T) {
	for queue, faults := range faults {
		cells := map[string]bool{}
		for _, s := range NewPlan(1, long, faults).Strikes {
			cells[s.Kind+s.Victim] = true
		}
		if want := len(faults) * len(taskKinds); len(cells) != want {
			t.Errorf("%s: %d cells, want %d", queue, len(cells), want)
		}
	}
}

func TestFaultsAreChosen(t *testing.T) {
	list, skipped := chosen(inDirectory, []string{"disk", "kill"}, false)
	if len(list) != 1 || list[0].name != "kill" || len(skipped) != len(diskFaults) {
		t.Errorf("chosen are %d faults, left out %q", len(list), skipped)
	}
	if list, skipped = chosen(inServer, nil, true); len(list) != len(faults[inServer]) || len(skipped) > 0 {
		t.Errorf("root has %d faults, left out %q", len(list), skipped)
	}
}
