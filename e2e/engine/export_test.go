package engine

import (
	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// Rules are the invariants that the record alone can show to be broken.
var Rules = rules

// Conserved is the invariant about where the tasks are.
var Conserved = conserved

// Judge compares the record with conditions and returns what is wrong, and why
// it is hopeless.
func Judge(env targets.Env, runners map[string]targets.Runner, record *history.History, that map[string]scenario.Condition,
	queue *api.QueueContents, probes map[string]bool) (wrong []string, hopeless string) {
	p := &play{env: env, record: record, runners: make(map[string]*started)}
	for name, r := range runners {
		p.runners[name] = &started{r, 1}
	}
	record.View(func(f *history.Facts) {
		v := p.judge(f, that, observed{queue: queue, probes: probes})
		wrong, hopeless = v.wrong, v.hopeless
	})
	return wrong, hopeless
}

// SetTimeFactor changes the time factor and returns the one before.
func SetTimeFactor(f float64) float64 {
	before := timeFactor
	timeFactor = f
	return before
}
