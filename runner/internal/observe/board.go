// Package observe shows what a runner does: the status document and its
// stream, probes, metrics, Kubernetes Events and the termination message. It
// changes nothing.
package observe

import (
	"reflect"
	"sync"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Board holds the newest status and tells those who watch of each change.
type Board struct {
	mu       sync.Mutex
	status   api.Status
	watchers map[chan api.Status]struct{}
	closed   bool
}

// watcherBacklog is how many changes a watcher may lag behind before its stream
// is ended: it can come back, while a gap in its record would be a lie.
const watcherBacklog = 4096

// NewBoard returns a board that shows initial.
func NewBoard(initial api.Status) *Board {
	return &Board{status: initial, watchers: make(map[chan api.Status]struct{})}
}

// Publish shows a status if it differs from the one before. Sequence, Time and
// Since are filled in.
func (b *Board) Publish(s api.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	now := time.Now()
	s.Since = b.status.Since
	if s.Phase != b.status.Phase || s.Target != b.status.Target {
		s.Since = now
	}
	s.Sequence, s.Time = b.status.Sequence, b.status.Time
	if reflect.DeepEqual(s, b.status) {
		return
	}
	s.Sequence++
	s.Time = now
	b.status = s
	for w := range b.watchers {
		select {
		case w <- s:
		default:
			delete(b.watchers, w)
			close(w)
		}
	}
}

// Latest returns the newest status.
func (b *Board) Latest() api.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status
}

// Watch returns a channel with the newest status and each one after it. It is
// closed by stop, by Close, or when its reader lags too far behind.
func (b *Board) Watch() (statuses <-chan api.Status, stop func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := make(chan api.Status, watcherBacklog)
	w <- b.status
	if b.closed {
		close(w)
		return w, func() {}
	}
	b.watchers[w] = struct{}{}
	return w, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if _, ok := b.watchers[w]; ok {
			delete(b.watchers, w)
			close(w)
		}
	}
}

// Close ends all streams after the status that is shown now.
func (b *Board) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for w := range b.watchers {
		delete(b.watchers, w)
		close(w)
	}
}
