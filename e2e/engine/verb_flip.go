package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"sigs.k8s.io/e2e-framework/klient/k8s"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

func init() {
	add(scenario.Verb{Name: "flip", Doc: "Sets the STATE of one map to each of the values in turn, again and again, and at the end to the last."}, flip.do)
}

type flip struct {
	// Map is the subject, global or a runner.
	Map scenario.MapName `json:"map"`
	// Values are values of STATE.
	Values []string `json:"values"`
	// Every is the time between two changes.
	Every scenario.Duration `json:"every"`
	// Times is how many changes there are.
	Times int `json:"times" jsonschema:"minimum=1,maximum=100000"`
	// Last is the value at the end.
	Last string `json:"last"`
}

func (f flip) String() string { return string(f.Map) }

func (f flip) Check(c *scenario.Checker, at string) {
	if took := time.Duration(f.Every) * time.Duration(f.Times); took >= c.Timeout() {
		c.Bad(at, "takes %s; must be below the scenario's timeout of %s", took, c.Timeout())
	}
}

// do keeps a steady pace.
func (f flip) do(p *play) error {
	tick := time.NewTicker(time.Duration(f.Every))
	defer tick.Stop()
	object := p.named(f.Map)
	patch := func(state string) error {
		return p.bounded(clusterBudget, func(ctx context.Context) error {
			data, err := json.Marshal(map[string]any{"data": map[string]string{api.StateKey: state}})
			if err != nil {
				return err
			}
			return p.objects().Patch(ctx, object, k8s.Patch{PatchType: "application/merge-patch+json", Data: data})
		})
	}
	for n := range f.Times {
		if err := patch(f.Values[n%len(f.Values)]); err != nil {
			return fmt.Errorf("change %d: %w", n+1, err)
		}
		select {
		case <-tick.C:
		case <-p.ctx.Done():
			return fmt.Errorf("after %d changes: %w", n+1, context.Cause(p.ctx))
		}
	}
	if err := patch(f.Last); err != nil {
		return err
	}
	return p.bounded(clusterBudget, func(ctx context.Context) error { return p.recorded(ctx, object) })
}
