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
	Fresh *Fresh
}

// Fresh is what a direct read of both maps gave right before the exit.
type Fresh struct {
	Maps Snapshot
	// Err is set when the API server gave no usable answer in time.
	Err error
}

// State is what the machine remembers between two steps.
type State struct {
	Memory    Memory
	Effective api.State
	// Since is when Effective became what it is.
	Since time.Time
	// Draining is since when the gate has been closed by a state or a signal.
	Draining time.Time
	// Unfinished is set when this drain had to stop tasks, at StoppedAt.
	Unfinished bool
	StoppedAt  time.Time
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
func (m Machine) Step(s State, in Input) (State, Orders) {
	if in.Fresh != nil {
		s.Memory.Confirm(in.Maps, *in.Fresh)
	}
	memory, resolved := Resolve(s.Memory, in.Maps, in.Now, m.Settle)
	s.Memory = memory
	if resolved.Effective != s.Effective {
		s.Effective, s.Since = resolved.Effective, in.Now
		s.Retry = time.Time{}
	}
	o := Orders{Wake: earliest(resolved.Wake, m.limit(&s, in))}
	o.Open = s.Effective == api.Running && in.Signals == 0 && s.Limit == ""
	o.Report.Resolution = resolved
	if !resolved.Confirm {
		s.Memory.Doubt = ""
	} else if in.Fresh != nil { // it was no help
		s.Retry = in.Now.Add(max(m.Settle, time.Second))
	}
	if o.Check = resolved.Confirm && !in.Now.Before(s.Retry); resolved.Confirm && !o.Check {
		o.Wake = earliest(o.Wake, s.Retry)
	}

	if s.Effective != api.DrainAndTerminate {
		s.Committed = false
	}
	draining := in.Signals > 0 || s.Effective == api.DrainAndTerminate || s.Effective == api.DrainAndSuspend
	if !draining {
		s.Draining, s.Unfinished = time.Time{}, false
	} else if s.Draining.IsZero() {
		s.Draining = in.Now
	}

	switch {
	case in.Signals > 0:
		m.stepSignal(&s, &o, in)
	case s.Limit != "":
		m.stepLimit(&s, &o, in)
	case draining:
		m.stepDrain(&s, &o, in)
	case s.Effective == api.Running:
		o.Report.Phase = api.PhaseRunning
	default:
		o.Report.Phase = api.PhaseUnknown
		o.Report.Reason = "the maps were not read yet; no task is taken"
	}
	return s, o
}

// stepSignal is R7: a signal outweighs STATE.
func (m Machine) stepSignal(s *State, o *Orders, in Input) {
	o.outweigh(api.SourceSignal, s.Memory.Known)
	m.stopAtDeadline(s, o, in)
	switch idle := in.Gate.Idle; {
	case in.Signals > 1:
		o.Stop = Kill
		o.exitWhen(idle || !in.Now.Before(in.LastSignal.Add(forceAfter)), api.ExitForced,
			"forced by a second signal; unfinished work was requeued")
		o.Wake = earliest(o.Wake, in.LastSignal.Add(forceAfter))
	case s.Unfinished:
		m.exitUnfinished(s, o, in, "the time to drain was over; unfinished work was requeued")
	default:
		o.exitWhen(idle, api.ExitSignalled, "drained in time after a termination signal")
	}
	o.Report.Phase, o.Report.Target = api.PhaseDraining, api.DrainAndTerminate
	o.Report.Reason = waitingFor(in.Gate)
	o.ended(in.Gate)
}

// ended reports the exit, where it is ordered.
func (o *Orders) ended(g gate.Snapshot) {
	if o.Exit == nil {
		return
	}
	o.Report.Reason = o.Exit.Message
	if g.Idle { // else tasks are left behind, and that is no termination
		o.Report.Phase, o.Report.Target = api.PhaseTerminated, api.Unset
	}
}

// stepDrain is R5, R6 and R10: finish the work, then wait or exit.
func (m Machine) stepDrain(s *State, o *Orders, in Input) {
	o.Report.Target = s.Effective
	m.stopAtDeadline(s, o, in)
	if !in.Gate.Idle {
		s.Committed = false
		o.Report.Phase = api.PhaseDraining
		o.Report.Reason = waitingFor(in.Gate)
		if s.Unfinished && s.Effective == api.DrainAndTerminate {
			m.exitUnfinished(s, o, in, "the drain deadline passed and a stopped task did not end; others will requeue it")
		}
		return
	}
	if s.Effective == api.DrainAndSuspend {
		s.Unfinished = false // that drain is over; a later end has a drain of its own
		o.Report.Phase = api.PhaseSuspended
		o.Report.Target = api.Unset
		return
	}
	if !s.Committed && m.commit(s, o, in) {
		s.Committed = true
	}
	if !s.Committed {
		o.Report.Phase = api.PhaseDraining
		o.Report.Reason = "no task is left; making sure that " + string(api.DrainAndTerminate) + " still stands"
		return
	}
	o.Report.Target = api.Unset
	o.Report.Phase = api.PhaseTerminated
	if m.Park {
		s.Unfinished = false // as above
		o.Report.Reason = "drained and parked"
		return
	}
	if s.Unfinished {
		o.exitWhen(true, api.ExitUnfinished, "the drain deadline passed; unfinished work was requeued")
	} else {
		o.exitWhen(true, api.ExitDrained, fmt.Sprintf("drained because the %s map says %s", o.Report.Source, s.Effective))
	}
	o.Report.Reason = o.Exit.Message
}

// commit says whether the commit point is reached (R6): the state has stood
// for the settle window and a fresh read still finds it.
func (m Machine) commit(s *State, o *Orders, in Input) bool {
	if f := in.Fresh; f != nil {
		if f.Err != nil {
			return true // bounded: exit on what is known
		}
		// A settle window of zero: what is read now is what counts now.
		if _, fresh := Resolve(s.Memory, f.Maps, in.Now, 0); fresh.Effective == api.DrainAndTerminate {
			return true
		}
		// The watch has not caught up yet. It is the one source of the state,
		// so wait for it rather than take sides.
		s.Retry = in.Now.Add(max(m.Settle, 100*time.Millisecond))
	}
	for _, t := range []time.Time{s.Since.Add(m.Settle), s.Retry} {
		if in.Now.Before(t) {
			o.Wake = earliest(o.Wake, t)
			return false
		}
	}
	o.Check = true
	return false
}

// stopAtDeadline stops the running tasks when the time of the drain, or of the
// grace period, is over.
func (m Machine) stopAtDeadline(s *State, o *Orders, in Input) {
	var deadline time.Time
	if m.DrainDeadline > 0 && s.Effective != api.Running && s.Effective != api.Unset {
		deadline = s.Draining.Add(m.DrainDeadline)
	}
	if in.Signals > 0 {
		deadline = earliest(deadline, in.FirstSignal.Add(m.GracePeriod))
	}
	if deadline.IsZero() || in.Gate.Idle {
		return
	}
	if in.Now.Before(deadline) {
		o.Wake = earliest(o.Wake, deadline)
		return
	}
	if !s.Unfinished {
		s.Unfinished, s.StoppedAt = true, in.Now
	}
	o.Stop = Terminate
}

// exitUnfinished exits once the stopped tasks are gone, or when they do not go.
func (m Machine) exitUnfinished(s *State, o *Orders, in Input, message string) {
	limit := s.StoppedAt.Add(m.KillDelay + AbandonAfter)
	o.exitWhen(in.Gate.Idle || !in.Now.Before(limit), api.ExitUnfinished, message)
	o.Wake = earliest(o.Wake, limit)
}

func (o *Orders) exitWhen(now bool, code int, message string) {
	if now {
		o.Exit = &Exit{code, message}
	}
}

func waitingFor(g gate.Snapshot) string {
	if n := g.Counts.Running; n == 1 {
		return "1 task still runs"
	} else if n > 1 {
		return fmt.Sprintf("%d tasks still run", n)
	}
	return "giving back what was fetched"
}
