package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/mapwatch"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

// source runs a part that feeds the record until the scenario ends.
func (p *play) source(name string, feed func(context.Context) error) {
	p.sources.Go(func() { p.told(name, cmp.Or(feed(p.ctx), errEarly)) })
}

// errEarly is why the record has a gap where a source has seen no error.
var errEarly = errors.New("it has ended before the scenario")

// told records why a part has failed, but for the scenario's end.
func (p *play) told(name string, err error) {
	if err != nil && p.ctx.Err() == nil {
		p.record.Add(history.Entry{Trouble: fmt.Sprintf("the %s has failed: %v", name, err)})
	}
}

// watch begins to record what tasks note, and the maps.
func (p *play) watch() (err error) {
	p.source("journal", func(ctx context.Context) error {
		return p.env.Journal(ctx, func(n targets.TaskNote) { p.record.Add(history.Entry{Note: &n}) })
	})
	p.maps, err = mapwatch.Begin(p.ctx, &p.sources, p.env.Client().Config, p.env.Namespace(), p.record)
	return err
}
