package engine

import (
	"context"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

func init() {
	add(scenario.Verb{Name: "fakegpu", Need: scenario.NeedFakeGPUs,
		Doc: "Changes the fake GPUs of runners, started or not: a command line of fakegpu with DIR for the state directory, as inject xid DIR 0 79."}, fakegpu.do)
}

type (
	fakegpu     map[scenario.RunnerName]fakegpuLine
	fakegpuLine string
)

// Check wants what can be a command line; fakegpu itself knows the rest.
func (f fakegpuLine) Check(c *scenario.Checker, at string) {
	words := strings.Fields(string(f))
	if len(words) == 0 {
		c.Bad(at, "is empty")
		return
	}
	c.Word(at, words[0], []string{"add", "heal", "inject", "mig", "remove", "set"})
	if n := len(slices.DeleteFunc(words, func(w string) bool { return w != "DIR" })); n != 1 {
		c.Bad(at, "has %d words DIR; must have one, for the state directory", n)
	}
}

func (f fakegpu) do(ctx context.Context, p *play) error {
	return eachOf(f, func(name scenario.RunnerName, line fakegpuLine) error {
		spec := targets.RunnerSpec{Name: string(name), Runner: p.scenario.Runners[string(name)]}
		return with(p, func(c targets.FakeGPUControl) error { return c.ChangeGPUs(ctx, spec, strings.Fields(string(line))) })
	})
}
