package lifecycle_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	. "github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// books are what a story's writer knows: what the maps said when, which signals
// came when, which tasks run. They say what the machine must do, and never ask
// it what it remembers.
type books struct {
	machine Machine
	now     time.Time

	global, node mapBook
	effective    api.State
	since        time.Time // of effective
	drain        time.Time // when it began; zero for none
	stopped      time.Time // when this drain had to stop tasks; zero if it had not
	running      int
	signals      int
	first, last  time.Time

	agreed bool      // a fresh read has found that DrainAndTerminate stands
	parked bool      // which ended the drain; a signal may say so, or how it ended
	again  time.Time // when to read anew after one that has not
	asked  time.Time // when the read was ordered that has not answered; zero for none
}

// mapBook is what one map says.
type mapBook struct {
	text  string
	value api.State // in force, empty for unset
	gone  time.Time // when it was deleted
}

// set is R3, what is invalid changes nothing, and R6, nor does a deletion at once.
func (m *mapBook) set(text string, now time.Time) {
	switch {
	case text == "absent" && m.text != "absent":
		m.gone = now
	case text == "keyless":
		m.value = api.Unset
	case text != "absent" && text != "bogus":
		m.value = api.State(text)
	}
	m.text = text
}

// pending says whether a deletion has no effect yet.
func (m *mapBook) pending() bool { return m.text == "absent" && m.value != api.Unset }

// view is the map as it is watched.
func (m *mapBook) view(name string) View {
	v := view(name, m.text)
	if m.text == "absent" {
		v.Gone = m.gone
	}
	return v
}

// doubt is when to ask for a read that confirms a deletion; zero for none to confirm.
func (b *books) doubt() (at time.Time) {
	for _, m := range []*mapBook{&b.global, &b.node} {
		if over := m.gone.Add(b.machine.Settle); m.pending() && (at.IsZero() || over.Before(at)) {
			at = over
		}
	}
	if !at.IsZero() && at.Before(b.again) {
		at = b.again
	}
	return at
}

// doubtful says whether that is due.
func (b *books) doubtful() bool {
	at := b.doubt()
	return !at.IsZero() && !b.now.Before(at)
}

// advance brings the books up to date after a change.
func (b *books) advance() {
	effective := api.Running
	for _, s := range []api.State{b.global.value, b.node.value} {
		if s != api.Unset {
			effective = s
		}
	}
	if effective != b.effective {
		b.effective, b.since, b.agreed, b.again = effective, b.now, false, time.Time{}
	}
	switch {
	case effective == api.Running && b.signals == 0:
		b.drain, b.stopped, b.parked = time.Time{}, time.Time{}, false
	case b.drain.IsZero():
		b.drain = b.now
	}
	if b.running > 0 {
		b.agreed = false
	}
	b.parked = b.parked || b.agreed && b.machine.Park && b.signals == 0
	if end := b.deadline(); b.running > 0 && b.stopped.IsZero() && !end.IsZero() && !b.now.Before(end) {
		b.stopped = b.now
	}
	if b.running == 0 && b.signals == 0 && effective == api.DrainAndSuspend {
		b.stopped = time.Time{} // that drain is over
	}
}

// deadline is when the tasks are to be stopped; zero for never.
func (b *books) deadline() (end time.Time) {
	if b.machine.DrainDeadline > 0 && b.effective != api.Running {
		end = b.drain.Add(b.machine.DrainDeadline)
	}
	if grace := b.first.Add(b.machine.GracePeriod); b.signals > 0 && (end.IsZero() || grace.Before(end)) {
		end = grace
	}
	return end
}

// judge compares orders with the books, and returns what is wrong with them.
func (b *books) judge(o Orders) string {
	open := b.effective == api.Running && b.signals == 0
	stop := LeaveAlone
	switch end := b.deadline(); {
	case b.signals > 1:
		stop = Kill
	case !end.IsZero() && !b.now.Before(end):
		stop = Terminate
	}
	switch end := b.deadline(); {
	case o.Open != open:
		return fmt.Sprintf("the gate is open: %v", o.Open)
	case b.doubtful() && !o.Check:
		return "does not read to confirm a deletion"
	case o.Report.Effective != b.effective:
		return fmt.Sprintf("effective is %s", o.Report.Effective)
	case b.running > 0 && o.Stop != stop:
		return fmt.Sprintf("stop is %v, want %v", o.Stop, stop)
	case b.running > 0 && stop == LeaveAlone && !end.IsZero() && (o.Wake.IsZero() || o.Wake.After(end)):
		return fmt.Sprintf("sleeps until %v, past the deadline %v", o.Wake, end)
	case open && o.Report.Phase != api.PhaseRunning:
		return "the phase is not Running"
	case open:
		return b.judgeExit(o, false)
	case b.running > 0:
		return b.judgeBusy(o)
	case b.signals > 0:
		return b.judgeExit(o, true)
	case b.effective == api.DrainAndSuspend && o.Report.Phase != api.PhaseSuspended:
		return "the phase is not Suspended"
	case b.effective == api.DrainAndSuspend:
		return b.judgeExit(o, false)
	}
	return b.judgeCommit(o)
}

// judgeBusy is for a drain with tasks.
func (b *books) judgeBusy(o Orders) string {
	// R9: the tasks that it has stopped have the kill delay. A machine that
	// waits for more than a minute more waits for ever.
	const patience = time.Minute
	goes := b.signals > 0 || b.effective == api.DrainAndTerminate
	var limit time.Time
	switch {
	case b.signals > 1:
		limit = b.last
	case goes && !b.stopped.IsZero():
		limit = b.stopped.Add(b.machine.KillDelay)
	}
	if o.Report.Phase != api.PhaseDraining || o.Check != b.doubtful() {
		return "is not draining, or reads the maps, while tasks run"
	}
	if limit.IsZero() || b.now.Before(limit) {
		return b.judgeExit(o, false)
	}
	if o.Exit != nil || b.now.After(limit.Add(patience)) {
		return b.judgeExit(o, true)
	}
	if o.Wake.IsZero() || o.Wake.After(limit.Add(patience)) {
		return fmt.Sprintf("sleeps until %v while tasks do not end", o.Wake)
	}
	return ""
}

// judgeCommit is for an idle runner under DrainAndTerminate: R6.
func (b *books) judgeCommit(o Orders) string {
	window := b.since.Add(b.machine.Settle)
	if window.Before(b.again) {
		window = b.again
	}
	switch {
	case b.agreed && o.Report.Phase != api.PhaseTerminated:
		return "the phase is not Terminated after the fresh read"
	case b.agreed && o.Check != b.doubtful():
		return "reads again after the commit point"
	case b.agreed:
		return b.judgeExit(o, !b.machine.Park)
	case o.Report.Phase != api.PhaseDraining:
		return "the phase is not Draining before the fresh read"
	case b.doubtful(): // which asks already
	case b.now.Before(window) && (o.Check || o.Wake.IsZero() || o.Wake.After(window) || o.Wake.Before(window) && b.doubt().IsZero()):
		return fmt.Sprintf("reads: %v, and wakes at %v, before the window ends at %v", o.Check, o.Wake, window)
	case !b.now.Before(window) && !o.Check:
		return "does not read after the window"
	}
	return b.judgeExit(o, false)
}

// judgeExit is R9.
func (b *books) judgeExit(o Orders, exits bool) string {
	if (o.Exit != nil) != exits {
		return fmt.Sprintf("exit %v, want one: %v", o.Exit, exits)
	}
	if !exits {
		return ""
	}
	code := api.ExitDrained
	if stood := b.now.Sub(b.since); o.Exit.Code == code && stood < b.machine.Settle {
		return fmt.Sprintf("exit %+v after %s of %s", *o.Exit, stood, b.effective)
	}
	switch {
	case b.signals > 1:
		code = api.ExitForced
	case !b.stopped.IsZero():
		code = api.ExitUnfinished
	case b.signals == 1:
		code = api.ExitSignalled
	}
	if b.parked && b.signals == 1 && o.Exit.Code == api.ExitSignalled {
		code = api.ExitSignalled
	}
	if o.Exit.Code != code || o.Exit.Message == "" {
		return fmt.Sprintf("exit %+v, want %d and why", *o.Exit, code)
	}
	return ""
}

// Whatever happens in whatever order, and however long nothing does, the machine
// orders what the books say.
func TestRandomStories(t *testing.T) {
	values := []string{"Running", "DrainAndTerminate", "DrainAndSuspend", "keyless", "bogus", "absent"}
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 4))
		m := Machine{
			Settle: 2 * time.Second, GracePeriod: 25 * time.Second, KillDelay: 3 * time.Second,
			DrainDeadline: time.Duration(r.IntN(3)) * 10 * time.Second, Park: r.IntN(4) == 0,
		}
		b := &books{machine: m, now: start, global: mapBook{text: "absent"}, node: mapBook{text: "absent"}}
		var state Progress
		var o Orders
		in := Input{Maps: maps("absent", "absent"), Gate: busy(0)}
		for step := range 40 {
			b.now = b.now.Add(time.Duration(r.IntN(5)) * time.Second)
			what := "nothing"
			switch n := r.IntN(8); {
			case n < 2:
				g, v := values[r.IntN(len(values))], values[r.IntN(len(values))]
				b.global.set(g, b.now)
				b.node.set(v, b.now)
				in.Maps, what = Snapshot{Global: b.global.view(api.GlobalMapName), Node: b.node.view("node-1")}, g+" and "+v
			case n < 4 && o.Open:
				b.running = r.IntN(3)
			case n < 4:
				b.running = r.IntN(b.running + 1) // nothing starts in a drain
			case n == 4 && r.IntN(8) == 0 && b.now.After(b.last.Add(time.Second)): // sooner it may be the same one
				signals(b, &in)
				what = "a signal"
			case n == 5: // exactly when it wants to be woken
				if o.Wake.After(b.now) {
					b.now = o.Wake
				}
			case n > 5 && o.Check:
				in.Fresh = read(r, b)
				what = fmt.Sprintf("a fresh read, error %v", in.Fresh.Err)
			}
			b.advance()
			if in.Fresh != nil {
				b.judged(in.Fresh)
			}
			in.Now, in.Gate = b.now, busy(b.running)
			state, o = m.Step(state, in)
			in.Fresh = nil
			if !o.Check {
				b.asked = time.Time{}
			} else if b.asked.IsZero() {
				b.asked = b.now
			}
			if wrong := b.judge(o); wrong != "" {
				t.Fatalf("seed %d, step %d, after %s: %s\n%+v\norders %+v", seed, step, what, wrong, *b, o)
			}
			if o.Exit != nil {
				break
			}
		}
	}
}

func signals(b *books, in *Input) {
	b.signals++
	b.last = b.now
	if b.signals == 1 {
		b.first = b.now
	}
	in.Signals, in.FirstSignal, in.LastSignal = b.signals, b.first, b.last
}

// read is one of the answers that a fresh read can give; a deletion that it confirms counts.
func read(r *rand.Rand, b *books) *FreshRead {
	f := &FreshRead{Began: b.asked}
	b.asked = time.Time{}
	switch r.IntN(3) {
	case 0: // the watch has not caught up
		f.Maps = maps("Running", "Running")
	case 1:
		f.Err = errors.New("timeout")
	default:
		f.Maps = maps(b.global.text, b.node.text)
		for _, m := range []*mapBook{&b.global, &b.node} {
			if m.pending() && !f.Began.Before(m.gone.Add(b.machine.Settle)) {
				m.value = api.Unset
			}
		}
	}
	return f
}

// judged is what a fresh read means for the exit, once the books are up to date.
func (b *books) judged(f *FreshRead) {
	drains := b.effective == api.DrainAndTerminate && b.running == 0 && b.signals == 0
	counts := drains && !b.agreed && !f.Began.Before(b.since.Add(b.machine.Settle))
	if counts {
		fresh := api.Running
		for _, m := range []struct {
			text   string
			before api.State
		}{{f.Maps.Global.Value, b.global.value}, {f.Maps.Node.Value, b.node.value}} {
			switch m.text {
			case "":
			case "bogus":
				fresh = cmp.Or(m.before, fresh)
			default:
				fresh = api.State(m.text)
			}
		}
		b.agreed = f.Err != nil || fresh == api.DrainAndTerminate
	}
	if counts || b.doubtful() {
		b.again = b.now.Add(b.machine.Settle)
	}
	b.advance()
}
