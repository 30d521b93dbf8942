package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Problem is a clause that the record breaks, and by what.
type Problem struct{ Clause, Text string }

// The clauses.
const (
	Lost      = "lost"       // R12: run to its end, or a dead letter
	OneResult = "one result" // R12: one accepted result
	TrueWord  = "true word"  // R12: results and dead letters say what was so
	Repeat    = "repeat"     // R12: only for its reasons
	LateStart = "late start" // R5
	Unasked   = "unasked"    // R6: exits that nobody asks for any more
	ExitCode  = "exit code"  // R9
	HeldTwice = "held twice" // R13, and one claim for a task
	Left      = "left"       // nothing outlives its owner
)

const (
	// deaths is how many runners may die of a task.
	deaths = 10
	// slack is for what takes its time on a busy machine: news of a map, an exit.
	slack = 2 * time.Second
	// ending is how long a process may take to end once its exit was ordered: the 3 s
	// that the runner gives it, and what a busy machine takes of it. It no longer hears a
	// signal meanwhile.
	ending = 10 * time.Second
	// outage is how long a runner waits for an API server that does not answer
	// before it exits on what it knows (R6), and what follows.
	outage = 45 * time.Second
	// settleWindow is the runners' --settle.
	settleWindow = 200 * time.Millisecond
	// startup is how long a runner may take to find out that it cannot start.
	startup = 20 * time.Second
)

// Check returns every clause that the record breaks.
func Check(r *Record) []Problem {
	c := &check{Record: r, tasks: map[string][]*attempt{}, lives: map[*Life][]*attempt{}}
	for _, a := range r.attempts() {
		c.tasks[a.Task] = append(c.tasks[a.Task], a)
		c.lives[a.Life] = append(c.lives[a.Life], a)
	}
	for i := range r.Tasks {
		c.task(&r.Tasks[i])
	}
	for i := range r.Lives {
		c.gate(&r.Lives[i])
		c.exit(&r.Lives[i])
	}
	for _, n := range r.Notes {
		if n.What == "held" {
			c.bad(HeldTwice, "attempt %d of task %s on %s found %s in use", n.Attempt, n.Task, n.Life, n.Rest)
		}
	}
	for _, text := range r.Left {
		c.bad(Left, "%s", text)
	}
	return c.problems
}

type check struct {
	*Record
	tasks    map[string][]*attempt
	lives    map[*Life][]*attempt
	problems []Problem
}

func (c *check) bad(clause, format string, args ...any) {
	c.problems = append(c.problems, Problem{clause, fmt.Sprintf(format, args...)})
}

// task wants one end of each task, a true one, and no start without a reason.
func (c *check) task(t *Task) {
	attempts := c.tasks[t.ID]
	accepted := 0
	for _, result := range c.Results {
		if result.Task != t.ID || result.Outcome != api.Succeeded {
			continue
		}
		accepted++
		if !slices.ContainsFunc(attempts, func(a *attempt) bool { return a.Number == result.Attempt && a.Code == "0" }) {
			c.bad(TrueWord, "task %s has Succeeded in attempt %d, which has noted no such end", t.ID, result.Attempt)
		}
	}
	letter, dead := c.Dead[t.ID]
	switch {
	case accepted == 0 && !dead:
		c.bad(Lost, "task %s has neither a result nor a dead letter after %d starts", t.ID, len(attempts))
	case accepted > 1 || accepted == 1 && dead:
		c.bad(OneResult, "task %s has %d results that succeeded, dead letter: %t", t.ID, accepted, dead)
	}
	if dead {
		c.letter(t, letter.Reason, attempts)
	}
	for i := 1; i < len(attempts); i++ {
		if !c.mayRepeat(attempts[i-1], attempts[i]) {
			c.bad(Repeat, "task %s: attempt %d (%s, exit status %q) came after attempt %d of %s, without a reason",
				t.ID, attempts[i].Number, attempts[i].Life.Name, attempts[i].Code, attempts[i-1].Number, attempts[i-1].Life.Name)
		}
	}
}

// letter wants a dead letter to be true: as many failures as it has attempts, or as
// many deaths of runners as are too many.
func (c *check) letter(t *Task, reason string, attempts []*attempt) {
	failures, died := 0, 0
	for _, a := range attempts {
		if a.End != 0 && a.Code != "0" {
			failures++
		}
		if a.Life.crashed() {
			died++
		}
	}
	if failures < t.Attempts && died < deaths {
		c.bad(TrueWord, "task %s is a dead letter (%s) after %d failures of %d and %d deaths of runners", t.ID, reason, failures, t.Attempts, died)
	}
}

// crashed says whether the process ended in another way than it wanted to.
func (l *Life) crashed() bool { return l.Killed != 0 || l.Code == 2 }

// died is the earliest moment at which a crash may have freed its claims: on a busy
// machine the suite hears of an end late.
func (l *Life) died() Instant {
	for _, s := range l.Sent {
		if s.Signal == syscall.SIGKILL {
			return s.At
		}
	}
	return l.End.Plus(-slack)
}

// mayRepeat says whether R12 names a reason for the second start.
func (c *check) mayRepeat(a, b *attempt) bool {
	interrupted := a.End == 0 || a.End > b.Start
	switch {
	case a.End != 0 && a.Code != "0": // it failed
	case a.Life.crashed() && a.Life.died() <= b.Start: // and with it the claim
	case a.Life.Code == api.ExitUnfinished || a.Life.Code == api.ExitForced:
	case interrupted && len(a.Life.ends(b.Start)) > 0: // stopped, and given back before the exit
	case c.sick(a, b.Start):
	case interrupted && c.during(a.Start, b.Start, "descriptors", "processes"): // the machine refused it something in mid-start
	default:
		return false
	}
	return true
}

// sick says whether a GPU of the attempt was harmed in its time.
func (c *check) sick(a *attempt, by Instant) bool {
	return slices.ContainsFunc(c.Struck, func(s Struck) bool {
		return s.GPU != "" && strings.Contains(a.GPUs, s.GPU) && s.Begin <= by && s.End >= a.Start
	})
}

// unfinished says whether the attempt ran until its runner ended, or was stopped by it.
func (c *check) unfinished(a *attempt) bool {
	return (a.End == 0 || a.End > a.Life.End) && !c.sick(a, a.Life.End)
}

// ends are the signals that end a runner, as far as it was sent them by then.
func (l *Life) ends(by Instant) (list []Sent) {
	for _, s := range l.Sent {
		if s.At <= by && slices.Contains([]syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}, s.Signal) {
			list = append(list, s)
		}
	}
	return list
}

// forced says whether a second signal came that is not taken for the first (R7).
func (l *Life) forced() bool {
	const same = 900 * time.Millisecond // a busy machine may need the rest of the second
	sent := l.ends(l.End)
	return len(sent) > 1 && sent[len(sent)-1].At-sent[0].At >= Instant(same)
}

// gate wants no start while the runner itself has said, and with what the maps say
// now, that its gate is closed. The tasks that had begun by then are in its statuses.
func (c *check) gate(l *Life) {
	for i, said := range l.Said {
		if !c.closed(l, said) || i > 0 && c.closed(l, l.Said[i-1]) && c.reopens(l, l.Said[i-1]) > said.At {
			continue
		}
		end := c.reopens(l, said)
		for _, a := range c.lives[l] {
			if a.Start > said.At && a.Start < end && !l.began(a, said) {
				c.bad(LateStart, "attempt %d of task %s started on %s %v after it had reported %s", a.Number, a.Task, l.Name,
					time.Duration(a.Start-said.At), said.Status.Phase)
			}
		}
	}
}

// closed says whether a status is about the newest values of the maps, and that the
// gate is closed.
func (c *check) closed(l *Life, s Said) bool {
	if s.Status.Phase == api.PhaseRunning || s.Status.Phase == api.PhaseUnknown {
		return false
	}
	if s.Status.Source == api.SourceSignal {
		return true
	}
	if effective(c.Writes, l.Runner, s.At) == string(api.Running) {
		return false
	}
	seen := func(m *api.MapStatus, name string) bool {
		last := Write{}
		for _, w := range c.Writes {
			if w.Map == name && w.Begin <= s.At {
				last = w
			}
		}
		if last.Value == "" {
			return true // a map that is gone closes no gate
		}
		if m == nil {
			return false
		}
		version, err := strconv.ParseInt(m.ResourceVersion, 10, 64)
		return err == nil && last.End != 0 && version >= last.Version
	}
	return seen(s.Status.Maps.Global, api.GlobalMapName) && seen(s.Status.Maps.Node, l.Runner)
}

// reopens is when the gate may be open again.
func (c *check) reopens(l *Life, s Said) Instant {
	if s.Status.Source != api.SourceSignal {
		for _, w := range c.Writes {
			if w.Begin > s.At && effective(c.Writes, l.Runner, w.Begin) == string(api.Running) {
				return w.Begin
			}
		}
	}
	return l.End
}

// began says whether an attempt had passed the gate when the status was made.
func (l *Life) began(a *attempt, said Said) bool {
	listed := false
	for _, other := range l.Said {
		for _, task := range other.Status.InFlight {
			if task.ID == a.Task && task.Attempt == a.Number {
				listed = true
				if !task.Started.After(said.Status.Time) {
					return true
				}
			}
		}
	}
	return !listed && a.Start < said.At.Plus(slack)
}

// exit wants the code that R9 has for what was done to the runner, and R6's reason.
func (c *check) exit(l *Life) {
	unfinished := slices.ContainsFunc(c.lives[l], c.unfinished)
	signals := len(l.ends(l.End))
	bad := func(why string) {
		c.bad(ExitCode, "%s ended with %d (%v) after %d signals: %s; its last words: %q", l.Name, l.Code, l.Killed, signals, why, l.Message)
	}
	switch {
	case l.Killed == syscall.SIGKILL && slices.ContainsFunc(l.Sent, func(s Sent) bool { return s.Signal == syscall.SIGKILL }):
	case l.Killed != 0 && signals > 0 && l.Killed == l.ends(l.End)[0].Signal && len(l.Said) == 0 && len(c.lives[l]) == 0 && l.Message == "" && l.End < l.Start.Plus(startup):
		// Before its first instruction nobody can catch it; a shell, too, says 143. The first
		// thing that it does with signals in hand is to leave a word.
	case l.Killed != 0:
		bad("nobody sent that signal, or it should not end a runner")
	case l.Code == api.ExitDrained:
		if unfinished {
			bad("a task of it had not ended")
		}
		asked := c.asked(l)
		if len(l.ends(l.End.Plus(-ending))) > 0 || signals > 0 && !asked {
			bad("not STATE alone ended it")
		}
		if !asked {
			c.bad(Unasked, "%s exited though the maps asked for %s", l.Name, effective(c.Writes, l.Runner, l.End))
		}
	case l.Code == api.ExitSignalled && (signals == 0 || unfinished):
		bad("wanted is a signal and no task that had not ended")
	case l.Code == api.ExitUnfinished && signals == 0:
		bad("there was no deadline")
	case l.Code == api.ExitForced && !l.forced():
		bad("wanted are two signals, and not within a second")
	case l.Code == api.ExitError && (l.End-l.Start > Instant(startup) || !c.during(l.Start, l.End, "disk", "descriptors", "processes")):
		bad("it had all that it needs to start")
	case l.Code == 2 && !c.during(l.Start, l.End, "descriptors", "processes"):
		bad("it crashed")
	case !slices.Contains([]int{0, 1, 2, api.ExitUnfinished, api.ExitForced, api.ExitSignalled}, l.Code):
		bad("the contract has no such code")
	}
}

// asked says whether the maps asked for the end of a runner when it exited, or so
// short a time before that it need not know better, and for long enough.
func (c *check) asked(l *Life) bool {
	from, window := l.End.Plus(-slack), Instant(settleWindow)
	if c.during(l.End.Plus(-outage), l.End, "api", "stop") {
		from, window = l.End.Plus(-outage), 0 // it may be the only one that it heard of
	}
	began, least := Instant(-1), window
	for i, w := range c.Writes {
		asks := effective(c.Writes[:i+1], l.Runner, w.Begin) == string(api.DrainAndTerminate)
		switch {
		case asks && began < 0:
			began, least = w.Begin, window
			if w.Value == "" && l.knew(w.Begin) {
				least += window // a deletion takes effect after one of its own
			}
		case asks && w.Map == l.Runner:
			least = window // or it is written again, and then at once
		case !asks && began >= 0:
			if w.End >= from && min(w.End, l.End)-began >= least {
				return true
			}
			began = -1
		}
	}
	return began >= 0 && l.End-began >= least
}

// knew says whether a runner had read the maps by then.
func (l *Life) knew(by Instant) bool {
	return slices.ContainsFunc(l.Said, func(s Said) bool { return s.At < by && s.Status.Phase != api.PhaseUnknown })
}
