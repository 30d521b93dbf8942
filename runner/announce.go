package main

import (
	"context"
	"reflect"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/observe"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// announce tells the queue, as well as it can, what the runner could run, until ctx
// ends: at once where that has changed, and now and then where it has not.
func announce(ctx context.Context, board *observe.Board, slots func() int, to queue.Offers) error {
	const often, seldom = 200 * time.Millisecond, 10 * time.Second
	tick := time.NewTicker(often)
	defer tick.Stop()
	var last api.Offer
	var told time.Time
	for {
		now := offer(board.Latest(), slots())
		if !reflect.DeepEqual(now, last) || time.Since(told) >= seldom {
			if to.Announce(ctx, now) == nil {
				last, told = now, time.Now()
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// offer is what a status says to those who have tasks.
func offer(s api.Status, slots int) api.Offer {
	o := api.Offer{Runner: s.Runner, Phase: s.Phase, Slots: slots, Running: s.Tasks.Running + s.Tasks.Waiting}
	for _, g := range s.GPUs {
		if g.Health == api.Healthy {
			o.GPUs = append(o.GPUs, api.Bytes(g.MemoryBytes))
		}
	}
	return o
}
