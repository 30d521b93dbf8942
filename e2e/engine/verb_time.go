package engine

import (
	"context"
	"time"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func setMark(name scenario.NewMark, _ context.Context, p *play) error {
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
