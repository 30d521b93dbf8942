package engine

import (
	"context"
	"strings"
	"time"

	"github.com/invopop/jsonschema"

	crowds "github.com/studioml/studio-go-runner/e2e/crowd"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

// Crowd is maps that concern no runner.
type Crowd struct {
	// Maps is how many there are.
	Maps int `json:"maps" jsonschema:"minimum=1,maximum=20000"`
	// Every is the time between two changes.
	Every scenario.Duration `json:"every"`
}

func (c Crowd) do(ctx context.Context, p *play) error {
	all, err := crowds.Make(ctx, p.env.Client(), p.env.Namespace(), c.Maps)
	if err != nil {
		return err
	}
	p.source("crowd", func(ctx context.Context) error { return all.Change(ctx, time.Duration(c.Every)) })
	return nil
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
