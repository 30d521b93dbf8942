package lifecycle

import (
	"fmt"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
)

// Machine holds the settings of the lifecycle.
type Machine struct {
	// Settle is how long DrainAndTerminate must have been seen before the
	// runner exits, and how long a deleted map keeps its effect.
	Settle time.Duration
	// DrainDeadline is how long tasks may go on in a drain; 0 is for ever.
	DrainDeadline time.Duration
	// GracePeriod is how long tasks may go on after SIGTERM.
	GracePeriod time.Duration
	// KillDelay is the time between TERM and KILL for a task.
	KillDelay time.Duration
	// Park keeps a drained runner alive and idle instead of exiting.
	Park bool
	// MaxTasks and MaxIdle are the runner's own limits: how many tasks it starts,
	// and how long it has none before it ends. 0 is no limit.
	MaxTasks int
	MaxIdle  time.Duration
}

// Input is the present facts.
type Input struct {
	Now  time.Time
	Maps Snapshot
	Gate gate.Snapshot
	// Signals is how many termination signals came; FirstSignal and
	// LastSignal when.
	Signals                 int
	FirstSignal, LastSignal time.Time
	// Fresh is the answer to the fresh read that was ordered, once.
	Fresh *FreshRead
}

// FreshRead is what a direct read of both maps gave.
type FreshRead struct {
	Maps Snapshot
	// Began is when it was ordered. It tells nothing about a window that ended later.
	Began time.Time
	// Err is set when the API server gave no usable answer in time.
	Err error
}

// Progress is what the machine remembers between two steps.
type Progress struct {
	Memory    Memory
	Effective api.State
	// Since is when Effective became what it is.
	Since time.Time
	// Draining is since when the gate has been closed by a state or a signal.
	Draining time.Time
	// Stopped is about the end of the time of this drain.
	Stopped Stopped
	// Retry is when the next fresh read may be ordered.
	Retry time.Time
	// Committed is past the commit point: the runner is terminated.
	Committed bool
	// Limit says which limit was reached; empty for none.
	Limit string
	// Idle is since when there has been no task behind the open gate, when as many
	// had started as Started.
	Idle    time.Time
	Started int
	// Idled says that this has lasted for too long.
	Idled bool
}

// Stopped is how the time of a drain was over.
type Stopped struct {
	At    time.Time // zero if it was not, or nothing was left by then
	Tasks bool      // tasks had to be stopped; else a fetch was under way, or what it had brought
}

// Orders is what is to be done now. They are levels: an order stands until a
// later step no longer gives it.
type Orders struct {
	// Open is whether the gate is open.
	Open bool
	// Stop is what happens to the running tasks.
	Stop Stop
	// Check asks for a fresh read of both maps.
	Check bool
	// Exit ends the process.
	Exit *Exit
	// Wake is when to take the next step at the latest; zero for never.
	Wake time.Time
	// Report is what is so now.
	Report Report
}

// Stop says how running tasks are treated.
type Stop int

// A task is left alone, terminated (TERM, KILL after the kill delay) or killed.
const (
	LeaveAlone Stop = iota
	Terminate
	Kill
)

// Exit is how the process ends.
type Exit struct {
	Code    int
	Message string // the termination message, a sentence
}

// Report is the part of the status that the machine is responsible for.
type Report struct {
	Phase  api.Phase
	Target api.State
	Reason string
	Resolution
}

// Step decides what to do, given what was remembered and what is so.
func (m Machine) Step(p Progress, in Input) (Progress, Orders) {
	if in.Fresh != nil {
		p.Memory.Confirm(in.Maps, *in.Fresh, m.Settle)
	}
	memory, resolved := Resolve(p.Memory, in.Maps, in.Now, m.Settle)
	p.Memory = memory
	if resolved.Effective != p.Effective {
		p.Effective, p.Since, p.Retry = resolved.Effective, in.Now, time.Time{}
	}
	o := Orders{Wake: resolved.Wake, Report: Report{Resolution: resolved}}
	m.limit(&p, &o, in)
	o.Open = p.Effective == api.Running && in.Signals == 0 && p.Limit == ""
	if resolved.Doubtful {
		if in.Fresh != nil { // it was no help
			p.Retry = in.Now.Add(max(m.Settle, time.Second))
		}
		o.Check = due(in.Now, p.Retry, &o.Wake)
	} else {
		p.Memory.Doubt = ""
	}

	if p.Effective != api.DrainAndTerminate || !in.Gate.Idle {
		p.Committed = false
	}
	// Also when nothing is left: stepDrain tells Suspended and Terminated from Draining.
	draining := in.Signals > 0 || p.Effective == api.DrainAndTerminate || p.Effective == api.DrainAndSuspend
	if !draining {
		p.Draining, p.Stopped = time.Time{}, Stopped{}
	} else if p.Draining.IsZero() {
		p.Draining = in.Now
	}
	m.stopAtDeadline(&p, &o, in)

	switch {
	case in.Signals > 0:
		m.stepSignal(&p, &o, in)
	case p.Limit != "":
		m.stepLimit(&p, &o, in)
	case draining:
		m.stepDrain(&p, &o, in)
	case p.Effective == api.Running:
		o.Report.Phase = api.PhaseRunning
	default:
		o.Report.Phase = api.PhaseUnknown
		o.Report.Reason = "the maps were not read yet; no task is taken"
	}
	return p, o
}

// stopAtDeadline stops the running tasks when the time of the drain, or of the
// grace period, is over.
func (m Machine) stopAtDeadline(p *Progress, o *Orders, in Input) {
	var deadline time.Time
	most := m.DrainDeadline
	if d, err := time.ParseDuration(o.Report.Deadline); err == nil {
		most = d
	}
	if most > 0 && p.Effective != api.Running && p.Effective != api.Unset {
		deadline = p.Draining.Add(most)
	}
	if in.Signals > 0 {
		deadline = earliest(deadline, in.FirstSignal.Add(m.GracePeriod))
	}
	if deadline.IsZero() || in.Gate.Idle || !due(in.Now, deadline, &o.Wake) {
		return
	}
	o.Stop = Terminate
	p.Stopped.Tasks = p.Stopped.Tasks || in.Gate.Counts.Running > 0
	if p.Stopped.At.IsZero() {
		p.Stopped.At = in.Now
	}
}

// stepSignal is R7: a signal outweighs STATE.
func (m Machine) stepSignal(p *Progress, o *Orders, in Input) {
	o.outweigh(api.SourceSignal, p.Memory.Known)
	o.Report.Reason = waitingFor(in.Gate)
	if in.Signals == 1 {
		m.finish(p, o, in, api.ExitSignalled, "drained in time after a termination signal", "the time to drain was over; "+left(in.Gate))
		return
	}
	o.Stop = Kill
	if due(in.Now, in.LastSignal.Add(forceAfter), &o.Wake) || in.Gate.Idle {
		o.exit(in.Gate, api.ExitForced, "forced by a second signal; "+left(in.Gate))
	}
}

// stepDrain is R5, R6 and R10: finish the work, then wait or exit.
func (m Machine) stepDrain(p *Progress, o *Orders, in Input) {
	r := &o.Report
	r.Phase, r.Target = api.PhaseDraining, p.Effective
	switch {
	case !in.Gate.Idle:
		r.Reason = waitingFor(in.Gate)
		if p.Effective == api.DrainAndTerminate {
			m.abandon(p, o, in, "the drain deadline passed; "+left(in.Gate))
		}
	case p.Effective == api.DrainAndSuspend:
		p.Stopped = Stopped{} // an exit later is not because of what this drain stopped
		r.Phase, r.Target = api.PhaseSuspended, api.Unset
	case !m.commit(p, o, in):
		r.Reason = "no task is left; making sure that " + string(api.DrainAndTerminate) + " still stands"
	case m.Park:
		p.Stopped = Stopped{} // as above
		r.Phase, r.Target, r.Reason = api.PhaseTerminated, api.Unset, "drained and parked"
	case p.Stopped.Tasks:
		o.exit(in.Gate, api.ExitUnfinished, "the drain deadline passed; "+left(in.Gate))
	default:
		o.exit(in.Gate, api.ExitDrained, fmt.Sprintf("drained because the %s map says %s", r.Source, p.Effective))
	}
}

// commit says whether the commit point is reached (R6): the state has stood
// for the settle window and a fresh read after that still finds it.
func (m Machine) commit(p *Progress, o *Orders, in Input) bool {
	stood := p.Since.Add(m.Settle)
	if f := in.Fresh; f != nil && !f.Began.Before(stood) && !p.Committed {
		// A settle window of zero: what is read now is what counts now. Without an
		// answer in time it is what is known.
		_, fresh := Resolve(p.Memory, f.Maps, in.Now, 0)
		p.Committed = f.Err != nil || fresh.Effective == api.DrainAndTerminate
		// Else the watch has not caught up yet. It is the one source of the state,
		// so wait for it rather than take sides.
		p.Retry = in.Now.Add(max(m.Settle, 100*time.Millisecond))
	}
	if !p.Committed && due(in.Now, stood, &o.Wake) && due(in.Now, p.Retry, &o.Wake) {
		o.Check = true
	}
	return p.Committed
}

// finish exits when nothing is left, or when what was stopped has had its time.
func (m Machine) finish(p *Progress, o *Orders, in Input, code int, done, late string) {
	if in.Gate.Idle && !p.Stopped.Tasks {
		o.exit(in.Gate, code, done)
	} else {
		m.abandon(p, o, in, late)
	}
}

// abandon exits once the tasks that were stopped are gone, or do not go.
func (m Machine) abandon(p *Progress, o *Orders, in Input, message string) {
	if !p.Stopped.At.IsZero() && (due(in.Now, p.Stopped.At.Add(m.KillDelay+AbandonAfter), &o.Wake) || in.Gate.Idle) {
		o.exit(in.Gate, api.ExitUnfinished, message)
	}
}

// outweigh reports what is stronger than the maps.
func (o *Orders) outweigh(source api.Source, known bool) {
	r := &o.Report
	r.Phase, r.Target, r.Shadowed = api.PhaseDraining, api.DrainAndTerminate, nil
	if r.Source != api.SourceDefault && r.Effective != api.DrainAndTerminate && known {
		r.Shadowed = &api.Shadowed{Source: r.Source, Value: r.Effective}
	}
	r.Source, r.ResourceVersion, r.Notes = source, "", Notes{}
}

func (o *Orders) exit(g gate.Snapshot, code int, message string) {
	if o.Report.Why != "" {
		message += ": " + o.Report.Why
	}
	o.Exit = &Exit{code, message}
	o.Report.Reason = message
	if g.Idle { // else tasks are left behind, and that is no termination
		o.Report.Phase, o.Report.Target = api.PhaseTerminated, api.Unset
	}
}

// left says what becomes of unfinished work: a runner that ends before its tasks do, or
// before the queue has taken their ends, gives none of them back.
func left(g gate.Snapshot) string {
	switch n := g.Counts.Running; {
	case g.Idle:
		return "unfinished work was requeued"
	case n == 0:
		return "what was fetched may not be given back: then another runner takes it when its claim ends"
	case n == 1:
		return "1 task still runs, or its end could not be stored, and is not given back: another runner takes it when its claim ends"
	default:
		return fmt.Sprintf("%d tasks still run, or their ends could not be stored, and are not given back: other runners take them when their claims end", n)
	}
}

// waitingFor says what a drain waits for: tasks or, when none runs, those fetched or about
// to be fetched.
func waitingFor(g gate.Snapshot) string {
	switch n := g.Counts.Running; n {
	case 0:
		return "giving back what was fetched"
	case 1:
		return "1 task still runs"
	default:
		return fmt.Sprintf("%d tasks still run", n)
	}
}
