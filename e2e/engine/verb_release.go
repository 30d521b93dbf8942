package engine

import (
	"context"
	"fmt"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func init() {
	add(scenario.Verb{Name: "release", Doc: "Lets the held tasks of groups end."}, release.do)
}

type release []scenario.Group

func (r release) Check(c *scenario.Checker, at string) {
	for i, group := range r {
		at := fmt.Sprintf("%s[%d]", at, i)
		switch tasks := c.Tasks(group); {
		case tasks == nil:
		case !tasks.Hold:
			c.Bad(at, "group %q is not held", string(group))
		case !c.Once("release " + string(group)):
			c.Bad(at, "group %q was released before", string(group))
		}
	}
}

func (r release) do(p *play) error {
	return each(r, func(group scenario.Group) error {
		return p.bounded(queueBudget, func(ctx context.Context) error { return p.env.Release(ctx, string(group)) })
	})
}
