package engine

import (
	"context"
	"time"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func init() {
	add(scenario.Verb{Name: "wait", Doc: "Lets time pass, where there is no cause to wait for."}, pause.do)
}

type pause struct {
	// For is how long.
	For scenario.Duration `json:"for"`
	// Because is why nothing better can be waited for.
	Because string `json:"because" jsonschema:"minLength=1"`
}

func (w pause) String() string { return w.For.String() }

func (w pause) Check(c *scenario.Checker, at string) {
	if time.Duration(w.For) >= c.Timeout() {
		c.Bad(at+".for", "is %s; must be below the scenario's timeout of %s", w.For, c.Timeout())
	}
}

func (w pause) do(p *play) error { return p.pause(time.Duration(w.For)) }

// pause lets time pass; the scenario says why nothing better can be done.
func (p *play) pause(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}
