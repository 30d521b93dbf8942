package lifecycle

import (
	"fmt"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// limit returns why the runner's own limits end it, and when they might. Once they
// do, they do for good. Only an open gate can be idle: behind a closed one nobody
// looks for work.
func (m Machine) limit(s *State, in Input) (wake time.Time) {
	counts := in.Gate.Counts
	if s.Effective != api.Running || in.Signals > 0 || counts.Running+counts.Waiting > 0 {
		s.Idle = time.Time{}
	} else if s.Idle.IsZero() || counts.Started != s.Started {
		s.Idle = in.Now
	}
	s.Started = counts.Started
	switch {
	case s.Limit != "":
	case m.MaxTasks > 0 && counts.Started >= m.MaxTasks:
		s.Limit = fmt.Sprintf("%d tasks were started, as many as --max-tasks allows", counts.Started)
	case m.MaxIdle > 0 && !s.Idle.IsZero():
		if wake = s.Idle.Add(m.MaxIdle); !in.Now.Before(wake) {
			s.Limit, wake = fmt.Sprintf("there was no task for the %s of --max-idle", m.MaxIdle), time.Time{}
		}
	}
	return wake
}

// stepLimit finishes what runs, and exits. STATE cannot change that, and the drain
// deadline is for drains that somebody has asked for.
func (m Machine) stepLimit(s *State, o *Orders, in Input) {
	o.outweigh(api.SourceLimit, s.Memory.Known)
	m.stopAtDeadline(s, o, in)
	o.Report.Phase, o.Report.Target = api.PhaseDraining, api.DrainAndTerminate
	o.Report.Reason = s.Limit + "; " + waitingFor(in.Gate)
	switch {
	case s.Unfinished:
		m.exitUnfinished(s, o, in, "the drain deadline passed; unfinished work was requeued")
	default:
		o.exitWhen(in.Gate.Idle, api.ExitDrained, "drained because "+s.Limit)
	}
	o.ended(in.Gate)
}

// outweigh reports what is stronger than the maps.
func (o *Orders) outweigh(source api.Source, known bool) {
	r := &o.Report
	if r.Source != api.SourceDefault && r.Effective != api.DrainAndTerminate && known {
		r.Shadowed = &api.Shadowed{Source: r.Source, Value: r.Effective}
	} else {
		r.Shadowed = nil
	}
	r.Source, r.ResourceVersion = source, ""
}
