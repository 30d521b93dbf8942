package statemap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/studioml/studio-go-runner/runner/internal/kube"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// A fleet that comes back after an outage must not come back all at once, but an
// operator who waits for it should not wait long either. What the API server asks
// for in Retry-After, which may be an hour, counts as one of the longest pauses.
const (
	firstPause   = 200 * time.Millisecond
	longestPause = 4 * time.Second
	longest      = 10 // failures, after which the pause grows no more
	listLimit    = 30 * time.Second
	// A watch that ended sooner than this did no work, so that the next waits.
	shortWatch = time.Second
)

// follower keeps the view of one map up to date.
type follower struct {
	*Maps
	seen    lifecycle.View
	shown   *lifecycle.View // in the snapshot of Maps, under its lock
	version string          // where the next watch begins; empty asks for a list
}

// run lists and watches until ctx ends.
func (f *follower) run(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		began := time.Now()
		verb, err := f.round(ctx)
		if err == nil && time.Since(began) >= shortWatch {
			failures = 0
		}
		wait := pause(failures)
		failures++
		if err != nil || failures > 3 {
			// What is so counts, and not what was in between: a watch that went on
			// would tell of a drain that is over. And what may be listed counts,
			// though it may not be watched, or something between cuts every watch off.
			f.version = ""
		}
		if err != nil && kube.Code(err) != http.StatusGone { // which a list answers, and is no news for people
			f.unreadable(ctx, verb, err)
			if refusal, ok := errors.AsType[*kube.Refusal](err); ok && refusal.Later {
				wait = pause(longest)
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// pause grows with the failures in a row, and differs from runner to runner.
func pause(failures int) time.Duration {
	if failures == 0 {
		return rand.N(firstPause / 4)
	}
	full := min(firstPause<<min(failures-1, longest), longestPause)
	return full/2 + rand.N(full/2)
}

// round lists the map, unless it is known where to go on, and watches it until
// the watch ends. The error is why the map cannot be read now, with the verb that
// failed; there is none if a watch that was served ended, however it did.
func (f *follower) round(ctx context.Context) (verb string, err error) {
	if f.version == "" {
		if err := f.list(ctx); err != nil {
			return "list", err
		}
	}
	// A proxy may answer pings for an API server that is dead. The end of a watch is
	// what finds that out, after four minutes at most.
	const shortest = 2 * time.Minute
	limit := shortest + rand.N(shortest)
	ctx, cancel := context.WithTimeout(ctx, limit+longestPause) // should the server forget it
	defer cancel()
	query := only(f.seen.Name)
	query.Set("resourceVersion", f.version)
	query.Set("allowWatchBookmarks", "true")
	query.Set("timeoutSeconds", strconv.Itoa(int(limit.Seconds())))
	stream, err := f.client.Watch(ctx, f.path(), query)
	if err != nil {
		return "watch", err
	}
	defer stream.Close()
	f.seen.Unreadable, f.seen.Denied = "", time.Time{}
	f.show()
	for {
		var m ConfigMap
		kind, err := stream.Next(&m)
		_, refused := errors.AsType[*kube.Refusal](err)
		switch {
		case refused:
			return "watch", err
		case err != nil:
			// The connection broke, or time was up. Whether the map can be read
			// is what the next watch says.
			if !errors.Is(err, io.EOF) {
				f.log.Debug("watch ended", "map", f.seen.Name, "reason", err.Error())
			}
			return "", nil
		case kind != kube.Bookmark && m.Metadata.Name != f.seen.Name:
			return "watch", fmt.Errorf("asked for %q, got a map named %.80q", f.seen.Name, m.Metadata.Name)
		}
		f.version = m.Metadata.ResourceVersion
		switch kind {
		case kube.Added, kube.Modified:
			fill(&f.seen, &m)
		case kube.Deleted:
			gone(&f.seen, f.version)
		}
		f.show()
	}
}

func (f *follower) list(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, listLimit)
	defer cancel()
	var list struct {
		Metadata Metadata    `json:"metadata"`
		Items    []ConfigMap `json:"items"`
	}
	if err := f.client.Get(ctx, f.path(), only(f.seen.Name), &list); err != nil {
		return err
	}
	if len(list.Items) == 0 {
		// It may be absent because all of the namespace goes, which is no order (R6).
		switch ending, err := f.ending(ctx); {
		case err != nil:
			return err
		case ending:
			return fmt.Errorf("namespace %q is being deleted", f.namespace)
		}
		gone(&f.seen, list.Metadata.ResourceVersion)
	} else if m := &list.Items[0]; m.Metadata.Name == f.seen.Name {
		fill(&f.seen, m)
	} else {
		return fmt.Errorf("asked for %q, got a map named %.80q", f.seen.Name, m.Metadata.Name)
	}
	f.version = list.Metadata.ResourceVersion
	f.show()
	return nil
}

// show hands the snapshot on with what was seen, if that is news.
func (f *follower) show() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if *f.shown == f.seen {
		return
	}
	*f.shown = f.seen
	// Nobody sends without the lock, so there is room once the old snapshot is out.
	select {
	case <-f.updates:
	default:
	}
	f.updates <- f.current
}

// unreadable notes why the map cannot be read now. What was read before stays.
func (f *follower) unreadable(ctx context.Context, verb string, err error) {
	if ctx.Err() != nil {
		return // ended by us
	}
	text := fmt.Sprintf("ConfigMap %q in namespace %q", f.seen.Name, f.namespace)
	forbidden := kube.Code(err) == http.StatusForbidden
	if forbidden {
		text += fmt.Sprintf(": not allowed to %s configmaps; grant get, list and watch on configmaps to the runner's service account", verb)
	} else {
		text += fmt.Sprintf(" cannot be read: %v", err)
	}
	f.log.Debug("map unreadable", "map", f.seen.Name, "verb", verb, "error", err)
	f.seen.Unreadable = text
	if !forbidden {
		f.seen.Denied = time.Time{}
	} else if f.seen.Denied.IsZero() {
		f.seen.Denied = time.Now()
	}
	f.show()
}
