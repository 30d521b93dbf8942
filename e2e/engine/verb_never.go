package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func init() {
	add(scenario.Verb{Name: "never", Asserts: true,
		Doc: "Says what no entry of the record may show. An entry that meets every condition of a subject is a failure."}, Never.do)
}

// Never is what must not be in the record.
type Never struct {
	// Since is the mark to begin at; without it, the beginning of the record.
	Since scenario.Mark `json:"since,omitempty"`
	// That are the conditions, by subject. A log line counts when it is written,
	// everything else as long as it is so.
	That scenario.Conditions `json:"that"`
}

func (n Never) String() string { return strings.Join(slices.Sorted(maps.Keys(n.That)), ", ") }

// Check wants facts that a record can have.
func (n Never) Check(c *scenario.Checker, at string) {
	for subject, condition := range n.That {
		for name := range condition {
			if f := factOf(name); !f.Lasting {
				c.Bad(fmt.Sprintf("%s.that.%s.%s", at, subject, name), "is not in the record; use expect")
			}
		}
	}
}

// do looks at the facts as they were after each entry since the mark, the last of
// which is a look into the queue, if that is asked for.
func (n Never) do(p *play) error {
	if err := p.bounded(queueBudget, func(ctx context.Context) error { return p.ask(ctx, n.That) }); err != nil {
		return err
	}
	for subject, condition := range n.That {
		if err := p.neverOf(subject, condition, p.marks[n.Since].entries); err != nil {
			return fmt.Errorf("%s: %w", subject, err)
		}
	}
	return nil
}

// neverOf fails as well where no entry could have shown what must never be.
func (p *play) neverOf(subject string, condition scenario.Condition, since int) error {
	log, _ := condition["log"].(string)
	rest := maps.Clone(condition)
	delete(rest, "log")
	facts, entries, known := history.NewFacts(), p.record.Entries(), false
	for i, e := range entries {
		facts.Apply(e)
		if i < since {
			continue
		}
		so := p.judge(facts, scenario.Conditions{subject: rest}, true)
		known = known || !so.unknown
		if so.ok() && (log == "" || e.Runner == subject && strings.Contains(e.Log, log)) {
			return fmt.Errorf("what must never be was so, %s into the scenario: %s",
				e.Time.Sub(entries[0].Time).Round(time.Millisecond), p.describeSubject(facts, subject))
		}
	}
	if !known {
		return fmt.Errorf("nothing in the record could have shown it: %s", p.describeSubject(facts, subject))
	}
	return nil
}
