package engine

import (
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func init() {
	add(scenario.Verb{Name: "mark", Doc: "Names this point of the record, for never, offset and what must not grow."}, markVerb.do)
}

type markVerb string

func (m markVerb) Check(c *scenario.Checker, at string) {
	if strings.TrimSpace(string(m)) == "" {
		c.Bad(at, "is empty")
	}
	c.SetMark(at, scenario.Mark(m))
}

// mark is a point of the record.
type mark struct {
	entries int // that came before it
	time    time.Time
	look    look // at the metrics of runners, if the scenario asks for growth
}

func (m markVerb) do(p *play) error {
	at := mark{entries: len(p.record.Entries()), look: look{answers: make(map[string]answer)}}
	if asksForGrowth(p.scenario.Steps) {
		for name := range p.runners {
			p.ask(p.ctx, &at.look, name, metricsPath)
		}
	}
	at.time = time.Now()
	p.marks[scenario.Mark(m)] = at
	p.record.Add(history.Entry{Mark: string(m)})
	return nil
}

func asksForGrowth(steps []scenario.Step) bool {
	for that := range scenario.Actions[scenario.Conditions](steps) {
		for _, condition := range that {
			for _, want := range condition {
				if _, ok := want.(scenario.Growth); ok {
					return true
				}
			}
		}
	}
	return false
}
