package main

import (
	"context"
	"fmt"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// offersOf returns what the runners of a queue say that they can do, nil if that is
// not known.
func offersOf(ctx context.Context, store queue.Store) []api.Offer {
	if known, ok := store.(queue.Offers); ok {
		if offers, err := known.Offers(ctx); err == nil {
			return offers
		}
	}
	return nil
}

// why says why a task is not getting on, or how it ended.
func why(t api.TaskStatus, offers []api.Offer) string {
	if t.State != api.TaskWaiting {
		return t.Reason
	}
	if time.Now().Before(t.NotBefore) {
		return fmt.Sprintf("attempt %d failed; the next one starts after %s", t.Starts, t.NotBefore.Local().Format(time.TimeOnly))
	}
	place := fmt.Sprintf("number %d in the queue", t.Position)
	if offers == nil {
		return place
	}
	fits, open, free, closed := 0, 0, 0, ""
	for _, o := range offers {
		if o.Fits(t.Resources) {
			fits++
			if o.Phase == api.PhaseRunning {
				open++
				if o.Running < o.Slots {
					free++
				}
			} else if closed == "" {
				closed = fmt.Sprintf("%s is %s", o.Runner, o.Phase)
			}
		}
	}
	switch r := t.Resources; {
	case len(offers) == 0:
		return place + "; no runner looks into it"
	case fits == 0:
		return fmt.Sprintf("%s; no runner has %s", place, r)
	case open == 0:
		return fmt.Sprintf("%s; no runner that could run it takes tasks: %s", place, closed)
	case free == 0:
		return fmt.Sprintf("%s; all runners that could run it are busy", place)
	}
	return place
}
