package lifecycle

import (
	"fmt"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// limit notes when one of the runner's own limits ends it, which it then does for
// good, unless the machine refuses the last of its tasks. A runner is idle while it looks
// for work: not behind a closed gate, and not in a pause after the machine refused it
// something, or the queue did not answer.
func (m Machine) limit(p *Progress, o *Orders, in Input) {
	counts := in.Gate.Counts
	if p.Effective != api.Running || in.Signals > 0 || counts.Running+counts.Waiting > 0 || in.Gate.Idle {
		p.Idle = time.Time{}
	} else if p.Idle.IsZero() || counts.Started != p.Started {
		p.Idle = in.Now
	}
	p.Started = counts.Started
	full := m.MaxTasks > 0 && counts.Started-in.Gate.Refused >= m.MaxTasks
	p.Idled = p.Idled || !full && m.MaxIdle > 0 && !p.Idle.IsZero() && due(in.Now, p.Idle.Add(m.MaxIdle), &o.Wake)
	switch p.Limit = ""; {
	case p.Idled:
		p.Limit = fmt.Sprintf("there was no task for the %s of --max-idle", m.MaxIdle)
	case full:
		p.Limit = fmt.Sprintf("%d tasks were started, as many as --max-tasks allows", m.MaxTasks)
	}
}

// stepLimit finishes what runs, and exits. STATE cannot change that, and the drain
// deadline is for drains that somebody has asked for.
func (m Machine) stepLimit(p *Progress, o *Orders, in Input) {
	o.outweigh(api.SourceLimit, p.Memory.Known)
	o.Report.Reason = p.Limit + "; " + waitingFor(in.Gate)
	m.finish(p, o, in, api.ExitDrained, "drained because "+p.Limit, "the drain deadline passed; "+left(in.Gate))
}
