package fleet

import (
	"fmt"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Asked is the state that asks for what is to be so.
var Asked = map[api.Phase]api.State{
	api.PhaseRunning: api.Running, api.PhaseSuspended: api.DrainAndSuspend, api.PhaseTerminated: api.DrainAndTerminate,
}

// Await says what is missing until a phase is so, as the newest version of both maps
// asks for; nothing is once it is. Never means that it cannot come true.
func (r *Runner) Await(phase api.Phase) (missing string, never bool) {
	terminated := phase == api.PhaseTerminated
	switch asked := Asked[phase]; {
	case r.Ended && terminated:
		return "", false
	case r.Ended:
		return r.Problem, true
	case r.Effective != asked && r.obeys != asked:
		return r.contrary(), true
	case r.Seen && r.Phase == phase && r.obeys == asked && (r.alive || terminated):
		return "", false
	case r.Problem != "":
		return r.Problem, false
	case !r.Seen:
		return "has not seen the newest version of both maps", false
	}
	return r.progress(), false
}

func (r *Runner) contrary() string {
	text := "neither map says anything"
	if r.Source != api.SourceDefault {
		text = fmt.Sprintf("the %s map says %s", r.Source, r.Effective)
	}
	if r.SetBy != "" {
		text += ", set by " + r.SetBy
	}
	for _, more := range []string{r.Reason, r.Problem} {
		if more != "" {
			text += "; " + more
		}
	}
	return text
}

func (r *Runner) progress() string {
	if r.Phase != api.PhaseDraining {
		return "is " + string(r.Phase)
	}
	if r.Tasks == 1 {
		return "is Draining, 1 task left"
	}
	return fmt.Sprintf("is Draining, %d tasks left", r.Tasks)
}
