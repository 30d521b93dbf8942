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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/runner/internal/kube"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// A fleet that comes back after an outage must not come back all at once, but an
// operator who waits for it should not wait long either. What the API server asks
// for in Retry-After may be an hour, and counts as no more than one of the longest.
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
	name    string
	view    *lifecycle.View // in the snapshot of Maps, under its lock
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
			if refusal, ok := errors.AsType[*kube.Refusal](err); ok && refusal.Later > 0 {
				wait = max(wait, spread(min(2*refusal.Later, longestPause)))
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
	return spread(min(firstPause<<min(failures-1, longest), longestPause))
}

// spread is anything from half of it on.
func spread(full time.Duration) time.Duration { return full/2 + rand.N(full/2) }

// round lists the map, unless it is known where to go on, and watches it until
// the watch ends. The error is why the map cannot be read now, with the verb that
// failed; there is none if a watch that was served ended, unless the server said why.
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
	query := only(f.name)
	query.Set("resourceVersion", f.version)
	query.Set("allowWatchBookmarks", "true")
	query.Set("timeoutSeconds", strconv.Itoa(int(limit.Seconds())))
	stream, err := f.client.Watch(ctx, f.path(), query)
	if err != nil {
		return "watch", err
	}
	defer stream.Close()
	f.note(func(v *lifecycle.View) { v.Unreadable, v.Denied = "", time.Time{} })
	for {
		var m struct { // as Next wants it; see kube.Object
			kube.Refusal
			ConfigMap
		}
		kind, err := stream.Next(&m)
		_, refused := errors.AsType[*kube.Refusal](err)
		switch {
		case refused:
			return "watch", err
		case err != nil:
			// The connection broke, or time was up. Whether the map can be read
			// is what the next watch says.
			if !errors.Is(err, io.EOF) {
				f.log.Debug("watch ended", "map", f.name, "reason", err.Error())
			}
			return "", nil
		case kind != kube.Bookmark && m.Metadata.Name != f.name:
			return "watch", fmt.Errorf("asked for %q, got a map named %.80q", f.name, m.Metadata.Name)
		}
		f.version = m.Metadata.ResourceVersion
		switch kind {
		case kube.Added, kube.Modified:
			f.note(func(v *lifecycle.View) { fill(v, &m.ConfigMap) })
		case kube.Deleted:
			f.note(func(v *lifecycle.View) { gone(v, f.version) })
		}
	}
}

func (f *follower) list(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, listLimit)
	defer cancel()
	var list struct {
		Metadata metav1.ListMeta `json:"metadata"`
		Items    []ConfigMap     `json:"items"`
	}
	if err := f.client.Get(ctx, f.path(), only(f.name), &list); err != nil {
		return err
	}
	if len(list.Items) == 0 {
		// It may be absent because all of the namespace goes, which is no order (R6).
		if f.absenceIsNews() {
			switch ending, err := f.ending(ctx); {
			case err != nil:
				return err
			case ending:
				return fmt.Errorf("namespace %q is being deleted", f.namespace)
			}
		}
		f.note(func(v *lifecycle.View) { gone(v, list.Metadata.ResourceVersion) })
	} else if m := &list.Items[0]; m.Metadata.Name == f.name {
		f.note(func(v *lifecycle.View) { fill(v, m) })
	} else {
		return fmt.Errorf("asked for %q, got a map named %.80q", f.name, m.Metadata.Name)
	}
	f.version = list.Metadata.ResourceVersion
	return nil
}

// absenceIsNews says whether the map was there, or nobody has looked yet.
func (f *follower) absenceIsNews() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.view.Present || !f.view.Known
}

// note changes the view, and hands the snapshot on if that is news.
func (f *follower) note(change func(*lifecycle.View)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := *f.view
	if change(f.view); *f.view == before {
		return
	}
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
	text := fmt.Sprintf("ConfigMap %q in namespace %q", f.name, f.namespace)
	forbidden := kube.Code(err) == http.StatusForbidden
	if forbidden {
		text += fmt.Sprintf(": not allowed to %s configmaps; grant get, list and watch on configmaps to the runner's service account", verb)
	} else {
		text += fmt.Sprintf(" cannot be read: %v", err)
	}
	f.log.Debug("map unreadable", "map", f.name, "verb", verb, "error", err)
	f.note(func(v *lifecycle.View) {
		v.Unreadable = text
		if !forbidden {
			v.Denied = time.Time{}
		} else if v.Denied.IsZero() {
			v.Denied = time.Now()
		}
	})
}
