package lifecycle

import (
	"fmt"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// limit notes when one of the runner's own limits ends it, which it then does for
// good. A runner is idle while it looks for work: not behind a closed gate, and not in a
// pause after the machine refused it something, or the queue did not answer.
func (m Machine) limit(s *State, o *Orders, in Input) {
	counts := in.Gate.Counts
	if s.Effective != api.Running || in.Signals > 0 || counts.Running+counts.Waiting > 0 || in.Gate.Idle {
		s.Idle = time.Time{}
	} else if s.Idle.IsZero() || counts.Started != s.Started {
		s.Idle = in.Now
	}
	s.Started = counts.Started
	switch {
	case s.Limit != "":
	case m.MaxTasks > 0 && counts.Started >= m.MaxTasks:
		s.Limit = fmt.Sprintf("%d tasks were started, as many as --max-tasks allows", counts.Started)
	case m.MaxIdle > 0 && !s.Idle.IsZero() && due(in.Now, s.Idle.Add(m.MaxIdle), &o.Wake):
		s.Limit = fmt.Sprintf("there was no task for the %s of --max-idle", m.MaxIdle)
	}
}

// stepLimit finishes what runs, and exits. STATE cannot change that, and the drain
// deadline is for drains that somebody has asked for.
func (m Machine) stepLimit(s *State, o *Orders, in Input) {
	o.outweigh(api.SourceLimit, s.Memory.Known)
	o.Report.Reason = s.Limit + "; " + waitingFor(in.Gate)
	m.finish(s, o, in, api.ExitDrained, "drained because "+s.Limit, "the drain deadline passed; unfinished work was requeued")
}
