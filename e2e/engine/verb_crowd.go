package engine

import (
	"context"
	"time"

	crowds "github.com/studioml/studio-go-runner/e2e/crowd"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func init() {
	add(scenario.Verb{Name: "crowd", Doc: "Fills the runners' namespace with maps that concern none of them. " +
		"They are there when the step ends; until the scenario does, they are changed, one at a time."}, Crowd.do)
}

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
