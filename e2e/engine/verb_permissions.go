package engine

import (
	"context"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func init() {
	add(scenario.Verb{Name: "permissions", Doc: "Changes the rights of the runners."}, setPermissions)
}

func setPermissions(to scenario.Permissions, p *play) error {
	return p.bounded(clusterBudget, func(ctx context.Context) error { return p.env.SetPermissions(ctx, to) })
}
