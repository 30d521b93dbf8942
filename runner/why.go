package main

import (
	"cmp"
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
	if expired(t) {
		return fmt.Sprintf("it has expired, at %s, and is not started any more", t.Task.Expires.Local().Format(time.DateTime))
	}
	if time.Now().Before(t.NotBefore) {
		return fmt.Sprintf("attempt %d failed; the next one starts after %s", t.Starts, t.NotBefore.Local().Format(time.TimeOnly))
	}
	place := fmt.Sprintf("number %d in the queue", t.Position)
	if offers == nil {
		return place
	}
	fits, open, free, closed := false, false, false, ""
	for _, o := range offers {
		if !o.Fits(t.Resources) {
			continue
		}
		fits = true
		if o.Phase != api.PhaseRunning {
			closed = cmp.Or(closed, fmt.Sprintf("%s is %s", o.Runner, o.Phase))
			continue
		}
		open, free = true, free || o.Running < o.Slots
	}
	switch {
	case len(offers) == 0:
		return place + "; no runner looks into it"
	case !fits:
		return fmt.Sprintf("%s; no runner has %s", place, t.Resources)
	case !open:
		return fmt.Sprintf("%s; no runner that could run it takes tasks: %s", place, closed)
	case !free:
		return place + "; all runners that could run it are busy"
	}
	return place
}

// expired says whether a task still waits, though nobody starts it any more.
func expired(t api.TaskStatus) bool {
	return t.State == api.TaskWaiting && t.Task != nil && !t.Task.Expires.IsZero() && time.Now().After(t.Task.Expires.Time)
}
