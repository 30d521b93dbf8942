package engine

import (
	"context"
	"time"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func init() {
	add(scenario.Term{Name: "mark", Rules: scenario.Seen, Doc: "Names this point of the record, for never, offset and what must not grow."}, setMark)
	add(scenario.Term{Name: "offset",
		Doc: "Waits until so much time has passed since a mark, where nothing else shows that it has. On a busy machine it is more."}, Offset.do)
	add(scenario.Term{Name: "wait", Doc: "Lets time pass, where there is no cause to wait for."}, Pause.do)
}

// setMark asks first what there may not be more of later.
func setMark(name scenario.NewMark, ctx context.Context, p *play) error {
	for _, that := range scenario.Actions[scenario.Conditions](p.scenario.Steps) {
		for subject, condition := range that {
			for fact, want := range condition {
				if growth, ok := want.(scenario.Growth); ok && growth.Since == scenario.Mark(name) {
					_ = p.ask(ctx, scenario.Conditions{subject: {fact: want}})
				}
			}
		}
	}
	p.then[scenario.Mark(name)] = history.Sum(p.record.Entries())
	p.record.Add(history.Entry{Mark: string(name)})
	return nil
}

// marked is the entry of a mark, and an empty one without any.
func (p *play) marked(name scenario.Mark) (at history.Entry) {
	for _, e := range p.record.Entries() {
		if e.Mark != "" && e.Mark == string(name) {
			at = e
		}
	}
	return at
}

// Pause is time that passes, more of it where everything is given more.
type Pause struct {
	// For is how long.
	For scenario.Duration `json:"for"`
	// Because is why nothing better can be waited for.
	Because string `json:"because" jsonschema:"pattern=\\S"`
}

func (w Pause) Check(c *scenario.Checker, at string) {
	if w.For >= c.File.Timeout {
		c.Bad(at+".for", "is %s; must be below the scenario's timeout of %s", w.For, c.File.Timeout)
	}
}

func (w Pause) do(ctx context.Context, _ *play) error {
	return pause(ctx, Stretch(time.Duration(w.For)))
}

// Offset is a time after a mark.
type Offset struct {
	// Since is the mark.
	Since scenario.Mark `json:"since"`
	// By is how long after it, at least. Nothing may depend on that it is no more.
	By scenario.Duration `json:"by"`
}

func (o Offset) do(ctx context.Context, p *play) error {
	return pause(ctx, time.Duration(o.By)-time.Since(p.marked(o.Since).Time))
}

// pause lets time pass; the scenario says why nothing better can be done.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
