package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func init() {
	add(scenario.Verb{Name: "repeat", Doc: "Does steps again and again."}, Repeat.do)
}

// Repeat is steps that are done more than once.
type Repeat struct {
	// Times is how often.
	Times int `json:"times" jsonschema:"minimum=1,maximum=10000"`
	// Steps are done in order, each time.
	Steps []scenario.Step `json:"steps"`
}

// Nested are the steps, for whoever looks for some kind of step.
func (r Repeat) Nested() []scenario.Step { return r.Steps }

// Check wants steps that can be done twice.
func (r Repeat) Check(c *scenario.Checker, at string) {
	for i, s := range r.Steps {
		if slices.Contains([]string{"submit", "mark"}, s.Verb) {
			c.Bad(fmt.Sprintf("%s.steps[%d]", at, i), "%s cannot be repeated, since its name is taken the second time", s.Verb)
		}
	}
}

func (r Repeat) do(_ context.Context, p *play) error {
	for n := range r.Times {
		if err := p.steps(r.Steps); err != nil {
			return fmt.Errorf("%w\n(time %d of %d)", err, n+1, r.Times)
		}
	}
	return nil
}
