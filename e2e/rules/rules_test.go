package rules_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/rules"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// Words to write a record with, all of runner a.
func said(sequence uint64, phase api.Phase, counts api.TaskCounts, inFlight ...api.InFlight) history.Entry {
	return history.Entry{Runner: "a", Process: 1, Status: &api.Status{Sequence: sequence, Phase: phase, Tasks: counts, InFlight: inFlight}}
}

func asked(sequence uint64, phase api.Phase, effective api.State) history.Entry {
	e := said(sequence, phase, api.TaskCounts{})
	e.Status.Effective = effective
	return e
}

// of makes an entry another runner's.
func of(runner string, e history.Entry) history.Entry {
	if e.Runner = runner; e.Note != nil {
		e.Runner, e.Note.Runner = "", runner
	}
	return e
}

func began(task string, attempt int, gpus string) history.Entry {
	return history.Entry{Note: &targets.TaskNote{Task: task, Attempt: attempt, Runner: "a", GPUs: gpus}}
}

func ended(task string, attempt int, gpus string) history.Entry {
	return history.Entry{Note: &targets.TaskNote{Task: task, Attempt: attempt, Runner: "a", GPUs: gpus, End: true}}
}

func step(task string, n int) history.Entry {
	return history.Entry{Note: &targets.TaskNote{Task: task, Attempt: 1, Runner: "a", Step: n}}
}

func exited(code int) history.Entry {
	return history.Entry{Runner: "a", Process: 1, Exit: &targets.Exit{Code: code, Message: "a sentence"}}
}

func started(runner string) history.Entry {
	return history.Entry{Runner: runner, Process: 1, Start: true}
}

func logged(line string) history.Entry { return history.Entry{Runner: "a", Process: 1, Log: line} }

func TestRules(t *testing.T) {
	none := api.TaskCounts{}
	kill := rules.Allowed{Killed: map[string]int{"a": 1}}
	repeats := rules.Allowed{Repeats: []string{"t"}}
	tests := []struct {
		name    string
		allowed rules.Allowed
		entries []history.Entry
		want    string
	}{
		{name: "nothing happened"},
		{name: "an honest life", entries: []history.Entry{
			said(4, api.PhaseUnknown, none), said(5, api.PhaseRunning, none), said(6, api.PhaseRunning, api.TaskCounts{Running: 1, Started: 1}),
			said(7, api.PhaseDraining, api.TaskCounts{Running: 1, Started: 1}), said(8, api.PhaseSuspended, api.TaskCounts{Started: 1}),
			said(9, api.PhaseRunning, api.TaskCounts{Running: 1, Started: 2}), asked(10, api.PhaseTerminated, api.DrainAndTerminate), exited(0),
		}},

		{name: "R11 suspended", entries: []history.Entry{said(1, api.PhaseSuspended, api.TaskCounts{Running: 1})},
			want: "R11: runner a says Suspended with 1 tasks running and 0 waiting"},
		{name: "R11 terminated", entries: []history.Entry{said(1, api.PhaseTerminated, api.TaskCounts{Running: 2})},
			want: "R11: runner a says Terminated with 2 tasks running and 0 waiting"},
		{name: "R11 suspended and waiting", entries: []history.Entry{said(1, api.PhaseSuspended, api.TaskCounts{Waiting: 1})},
			want: "R11: runner a says Suspended with 0 tasks running and 1 waiting"},
		{name: "R11 terminated and waiting", entries: []history.Entry{said(1, api.PhaseTerminated, api.TaskCounts{Waiting: 1})},
			want: "R11: runner a says Terminated with 0 tasks running and 1 waiting"},

		{name: "R5", entries: []history.Entry{said(1, api.PhaseDraining, none), said(2, api.PhaseDraining, api.TaskCounts{Running: 1, Started: 1})},
			want: "R5: runner a started 1 tasks while Draining (statuses 1 and 2)"},
		{name: "R5 before the state is known", entries: []history.Entry{said(1, api.PhaseUnknown, none), said(2, api.PhaseSuspended, api.TaskCounts{Started: 1})},
			want: "R5: runner a started 1 tasks while Unknown (statuses 1 and 2)"},

		{name: "a gap", entries: []history.Entry{said(1, api.PhaseRunning, none), said(3, api.PhaseRunning, none)},
			want: "the record of runner a has a gap: status 3 follows 1"},
		{name: "a gap that may be", allowed: rules.Allowed{Gaps: true}, entries: []history.Entry{said(1, api.PhaseRunning, none), said(3, api.PhaseRunning, none), exited(137)}},
		{name: "trouble", entries: []history.Entry{{Trouble: "the journal has failed"}},
			want: "the record may have a gap: the journal has failed"},

		{name: "R9 unknown code", entries: []history.Entry{exited(2)}, want: "R9: runner a exited with 2 (a sentence), allowed here are [0 10 11 143]"},
		{name: "R9 error", entries: []history.Entry{exited(1)}, want: "R9: runner a exited with 1 (a sentence), allowed here are [0 10 11 143]"},
		{name: "R9 error that is awaited", allowed: rules.Allowed{Errors: map[string]bool{"a": true}}, entries: []history.Entry{exited(1)}},
		{name: "R9 signal", entries: []history.Entry{exited(-1)}, want: "R9: runner a exited with -1 (a sentence), allowed here are [0 10 11 143]"},
		{name: "R9 signal that was sent", allowed: kill, entries: []history.Entry{exited(-1)}},

		{name: "R9 error of another runner", allowed: rules.Allowed{Errors: map[string]bool{"b": true}}, entries: []history.Entry{exited(1)},
			want: "R9: runner a exited with 1 (a sentence), allowed here are [0 10 11 143]"},
		{name: "R9 one signal sent, two ends", allowed: kill, entries: []history.Entry{exited(-1), exited(-1)},
			want: "R9: runner a exited with -1 (a sentence), allowed here are [0 10 11 143]"},
		{name: "R9 done, and nobody has asked for it", entries: []history.Entry{asked(1, api.PhaseRunning, api.Running), exited(0)},
			want: "R9: runner a exited with 0 (a sentence), but its last word was Running, effective Running, source none"},
		{name: "R9 done while suspended", entries: []history.Entry{asked(1, api.PhaseSuspended, api.DrainAndSuspend), exited(0)},
			want: "R9: runner a exited with 0 (a sentence), but its last word was Suspended, effective DrainAndSuspend, source none"},
		{name: "R9 done by its own limit", entries: []history.Entry{
			{Runner: "a", Process: 1, Status: &api.Status{Effective: api.Running, Source: api.SourceLimit}}, exited(0)}},
		{name: "R9 signalled by nobody", entries: []history.Entry{exited(143)}, want: "R9: runner a exited with 143 (a sentence), but nobody has sent it a signal"},
		{name: "R9 forced by nobody", entries: []history.Entry{exited(11)}, want: "R9: runner a exited with 11 (a sentence), but nobody has sent it a signal"},
		{name: "R9 signalled", allowed: rules.Allowed{Signalled: map[string]bool{"a": true}}, entries: []history.Entry{exited(143)}},
		{name: "R9 signalled by others", allowed: rules.Allowed{Unheard: true}, entries: []history.Entry{exited(11)}},

		{name: "R12 twice", entries: []history.Entry{began("t-1", 1, ""), began("t-1", 2, "")},
			want: "R12: task t-1 was started 2 times, but no runner that had it was killed or ran out of time, and no GPU failed so often"},
		{name: "R12 twice after a kill", allowed: kill, entries: []history.Entry{began("t-1", 1, ""), exited(-1), began("t-1", 2, "")}},
		{name: "R12 twice after the end of another runner", allowed: kill, entries: []history.Entry{of("b", began("t-1", 1, "")), exited(-1), of("b", began("t-1", 2, ""))},
			want: "R12: task t-1 was started 2 times, but no runner that had it was killed or ran out of time, and no GPU failed so often"},
		{name: "R12 twice after a deadline", entries: []history.Entry{began("t-1", 1, ""), exited(10), began("t-1", 2, "")}},
		{name: "R12 twice after an orderly exit", entries: []history.Entry{began("t-1", 1, ""), exited(0), began("t-1", 2, "")},
			want: "R12: task t-1 was started 2 times, but no runner that had it was killed or ran out of time, and no GPU failed so often"},
		{name: "R12 twice after the GPU has failed", entries: []history.Entry{began("t-1", 1, "G1"), ended("t-1", 1, "G1"), began("t-1", 2, "G2"),
			said(1, api.PhaseRunning, api.TaskCounts{Started: 2, MachineFailed: 1})}},
		{name: "R12 three times after the GPU has failed once", entries: []history.Entry{began("t-1", 1, ""), began("t-1", 2, ""), began("t-1", 3, ""),
			said(1, api.PhaseRunning, api.TaskCounts{Started: 3, MachineFailed: 1})},
			want: "R12: task t-1 was started 3 times, but no runner that had it was killed or ran out of time, and no GPU failed so often"},
		{name: "R12 twice where attempts may be repeated", allowed: repeats, entries: []history.Entry{began("t-1", 1, ""), began("t-1", 2, "")}},

		{name: "R12 twice where attempts of others may be repeated", allowed: repeats, entries: []history.Entry{began("u-1", 1, ""), began("u-1", 2, "")},
			want: "R12: task u-1 was started 2 times, but no runner that had it was killed or ran out of time, and no GPU failed so often"},

		{name: "R12 steps", allowed: repeats, entries: []history.Entry{began("t-1", 1, ""), step("t-1", 1), step("t-1", 2), began("t-1", 2, ""), step("t-1", 3)}},
		{name: "R12 a step twice", allowed: repeats, entries: []history.Entry{began("t-1", 1, ""), step("t-1", 1), began("t-1", 2, ""), step("t-1", 1)},
			want: "R12: task t-1 did step 1 2 times, though it had saved it"},

		{name: "R13", entries: []history.Entry{began("t-1", 1, "G1,G2"), began("t-2", 1, "G2"), ended("t-1", 1, "G1,G2")},
			want: "R13: GPU G2 was given to task t-2 on runner a while task t-1 on runner a held it"},
		{name: "R13 one after the other", entries: []history.Entry{began("t-1", 1, "G1"), ended("t-1", 1, "G1"), began("t-2", 1, "G1"), ended("t-2", 1, "G1")}},
		{name: "R13 side by side", entries: []history.Entry{began("t-1", 1, "G1"), began("t-2", 1, "G2"), ended("t-1", 1, "G1"), ended("t-2", 1, "G2")}},
		{name: "R13 no GPUs", entries: []history.Entry{began("t-1", 1, ""), began("t-2", 1, ""), ended("t-1", 1, "")}},
		{name: "R13 killed before", allowed: repeats, entries: []history.Entry{began("t-1", 1, "G1"), began("t-1", 2, "G1"), began("t-2", 1, "G1")}},
		{name: "R13 both still run", entries: []history.Entry{began("t-1", 1, "G1"), began("t-2", 1, "G1"),
			said(1, api.PhaseRunning, api.TaskCounts{}, api.InFlight{ID: "t-1", Attempt: 1}, api.InFlight{ID: "t-2", Attempt: 1})},
			want: "R13: GPU G1 was given to task t-2 on runner a while task t-1 on runner a held it"},

		{name: "R13 both still run, on two runners", entries: []history.Entry{started("a"), started("b"), began("t-1", 1, "G1"), of("b", began("t-2", 1, "G1")),
			said(1, api.PhaseRunning, api.TaskCounts{}, api.InFlight{ID: "t-1", Attempt: 1}), of("b", said(1, api.PhaseRunning, api.TaskCounts{}, api.InFlight{ID: "t-2", Attempt: 1}))},
			want: "R13: GPU G1 was given to task t-2 on runner b while task t-1 on runner a held it"},
		{name: "R13 one runner was killed before", allowed: kill, entries: []history.Entry{started("a"), started("b"), began("t-1", 1, "G1"),
			said(1, api.PhaseRunning, api.TaskCounts{}, api.InFlight{ID: "t-1", Attempt: 1}), exited(-1),
			of("b", began("t-2", 1, "G1")), of("b", said(1, api.PhaseRunning, api.TaskCounts{}, api.InFlight{ID: "t-2", Attempt: 1}))}},

		{name: "race", entries: []history.Entry{logged("==="), logged("WARNING: DATA RACE")}, want: `runner a: "WARNING: DATA RACE"; see its log`},
		{name: "panic", entries: []history.Entry{logged("panic: boom")}, want: `runner a: "panic: boom"; see its log`},
		{name: "fatal", entries: []history.Entry{logged("fatal error: concurrent map writes")},
			want: `runner a: "fatal error: concurrent map writes"; see its log`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			record := history.New() // which numbers the entries
			for _, e := range tt.entries {
				record.Add(e)
			}
			got := ""
			if err := tt.allowed.Broken(record.Entries()); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestConserved(t *testing.T) {
	// in are tasks in states, as "t-1 Waiting"; with a dead one, and one that was no task.
	in := func(tasks ...string) (all targets.Contents) {
		for _, text := range append(tasks, "t-4 Dead") {
			id, state, _ := strings.Cut(text, " ")
			all = append(all, api.TaskStatus{ID: id, State: api.TaskState(state), Task: &api.Task{ID: id}})
		}
		return append(all, api.TaskStatus{ID: "broken", State: api.TaskDead})
	}
	all := []string{"t-1", "t-2", "t-3", "t-4"}
	tests := []struct {
		name     string
		contents targets.Contents
		want     []string
	}{
		{name: "one in each place", contents: in("t-1 Waiting", "t-2 Running", "t-3 Finished")},
		{name: "lost", contents: in("t-2 Running", "t-3 Finished"),
			want: []string{"R12: task t-1 is lost: it is not in the queue, not dead and has no result"}},
		{name: "twice", contents: in("t-1 Waiting", "t-1 Running", "t-2 Running", "t-3 Finished"),
			want: []string{"R12: task t-1 is in several places: [Waiting Running]"}},
		{name: "finished and dead", contents: in("t-1 Waiting", "t-2 Waiting", "t-3 Finished", "t-4 Finished"),
			want: []string{"R12: task t-4 is in several places: [Finished Dead]"}},
		{name: "strange", contents: in("t-1 Waiting", "t-2 Waiting", "x-1 Waiting", "t-3 Finished"),
			want: []string{"R12: task x-1, which nobody submitted, is in [Waiting]"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, err := range (rules.Allowed{Fails: rules.Groups{"t"}}).Conserved(all, tt.contents) {
				got = append(got, err.Error())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// A task is given up or cancelled only where the scenario lets that be.
func TestCauseless(t *testing.T) {
	contents := targets.Contents{
		{ID: "t-1", State: api.TaskDead, Task: &api.Task{}}, {ID: "u-1", State: api.TaskDead, Task: &api.Task{}},
		{ID: "v-1", State: api.TaskCancelled}, {ID: "w-1", State: api.TaskFinished},
	}
	tests := []struct {
		dead   []string
		owners bool
		want   string
	}{
		{[]string{"t", "u"}, true, ""},
		{[]string{""}, true, ""},
		{[]string{"u"}, true, "[R12: task t-1 was given up, and nothing has let it fail]"},
		{[]string{""}, false, "[R12: task v-1 was cancelled, but not by its owner]"},
	}
	for _, tt := range tests {
		got := ""
		may := rules.Allowed{Fails: tt.dead, Cancels: tt.owners}
		if wrong := may.Conserved([]string{"t-1", "u-1", "v-1", "w-1"}, contents); wrong != nil {
			got = fmt.Sprint(wrong)
		}
		if got != tt.want {
			t.Errorf("%v, %v: got %q, want %q", tt.dead, tt.owners, got, tt.want)
		}
	}
}
