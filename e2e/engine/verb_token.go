package engine

import (
	"context"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

func init() {
	add(scenario.Verb{Name: "token", Doc: "Changes the token of the runners' service account.", Need: scenario.NeedToken}, setToken)
}

func setToken(t scenario.Token, p *play) error {
	c, err := control[targets.TokenControl](p)
	if err != nil {
		return err
	}
	return p.bounded(tokenBudget, func(ctx context.Context) error { return c.SetToken(ctx, t) })
}
