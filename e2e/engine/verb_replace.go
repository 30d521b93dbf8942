package engine

import (
	"context"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func init() {
	add(scenario.Verb{Name: "replace", Doc: "Deletes maps and creates them anew, as kubectl replace --force does."}, replace.do)
}

type replace map[scenario.MapName]scenario.Map

func (r replace) Check(c *scenario.Checker, at string) {
	for subject, m := range r {
		if m.Absent {
			c.Bad(at+"."+string(subject), "is absent; to delete a map use delete")
		}
	}
}

func (r replace) do(p *play) error {
	return eachOf(r, func(subject scenario.MapName, m scenario.Map) error {
		return p.bounded(clusterBudget, func(ctx context.Context) error {
			object, err := p.configMap(ctx, subject, m)
			if err != nil {
				return err
			}
			objects := p.env.Client().Resources(object.Namespace)
			if err := objects.Delete(ctx, object); err != nil {
				return err
			}
			object.ResourceVersion = ""
			if err := objects.Create(ctx, object); err != nil {
				return err
			}
			return p.recorded(ctx, object)
		})
	})
}
