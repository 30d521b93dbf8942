package engine

import (
	"context"
	"strings"

	"github.com/invopop/jsonschema"

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

// JSONSchemaExtend wants what can be a command line; fakegpu itself knows the rest.
func (fakegpuLine) JSONSchemaExtend(s *jsonschema.Schema) {
	s.Title = "a line of fakegpu add, heal, inject, mig, remove or set, with DIR for the state directory"
	s.Pattern = `^(add|heal|inject|mig|remove|set) (.* )?DIR( .*)?$`
}

func (f fakegpu) do(ctx context.Context, p *play) error {
	return eachOf(f, func(name scenario.RunnerName, line fakegpuLine) error {
		spec := targets.RunnerSpec{Name: string(name), Runner: p.scenario.Runners[string(name)]}
		return with(p, func(c targets.FakeGPUControl) error { return c.ChangeGPUs(ctx, spec, strings.Fields(string(line))) })
	})
}
