package engine

import (
	"context"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func init() {
	add(scenario.Verb{Name: "owner", Doc: "Runs lines of the runner's commands, without that word, on the queue, as the owner of tasks does: cancel held-1."}, owner.do)
}

type owner []string

func (o owner) Check(c *scenario.Checker, at string) {
	for _, line := range o {
		if strings.TrimSpace(line) == "" {
			c.Bad(at, "has an empty line")
		}
	}
}

func (o owner) do(p *play) error {
	return each(o, func(line string) error {
		return p.bounded(submitBudget, func(ctx context.Context) error {
			p.record.Add(history.Entry{Output: "$ runner " + line + "\n"})
			return p.env.Owner(ctx, strings.Fields(line)...)
		})
	})
}
