// Package observe shows what a runner does: the status document and its
// stream, probes, metrics, Kubernetes Events, conditions and labels of its pod, and the
// termination message. It changes nothing of what the runner does, but that a task may
// wait a moment until its pod says that it is busy.
package observe

import (
	"context"
	"iter"
	"reflect"
	"sync"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Board holds the newest status and tells those who watch of each change.
type Board struct {
	// Heard is when the API server last gave a sign of life. It is shown with
	// each status and makes no news by itself. nil means never.
	Heard func() time.Time

	mu     sync.Mutex
	newest *page
	closed bool
}

// page is a status and the way to the one after it. Those that nobody watches
// any more are garbage, so that a watcher costs the pages it is behind.
type page struct {
	status api.Status
	turned chan struct{} // closed when next is set, or never will be
	next   *page
}

// watcherBacklog is how many changes a watcher may lag behind before its stream
// is ended: it can come back, while a gap in its record would be a lie.
const watcherBacklog = 4096

// NewBoard returns a board that shows initial, as of now.
func NewBoard(initial api.Status) *Board {
	initial.Time = time.Now()
	initial.Since = initial.Time
	return &Board{newest: &page{status: initial, turned: make(chan struct{})}}
}

// Publish shows a status if it differs from the one before. Sequence, Time and
// Since are filled in.
func (b *Board) Publish(s api.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	before, now := b.newest.status, time.Now()
	s.Since = before.Since
	if s.Phase != before.Phase || s.Target != before.Target {
		s.Since = now
	}
	s.Sequence, s.Time, s.Heard = before.Sequence, before.Time, time.Time{}
	if reflect.DeepEqual(s, before) {
		return
	}
	s.Sequence++
	s.Time = now
	b.newest.next = &page{status: s, turned: make(chan struct{})}
	close(b.newest.turned)
	b.newest = b.newest.next
}

func (b *Board) latest() *page {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.newest
}

// Latest returns the newest status.
func (b *Board) Latest() api.Status { return b.show(b.latest()) }

func (b *Board) show(p *page) api.Status {
	s := p.status
	if b.Heard != nil {
		s.Heard = b.Heard()
	}
	return s
}

// Watch gives the newest status and each one after it, until ctx ends, the board
// is closed, or its reader lags too far behind.
func (b *Board) Watch(ctx context.Context) iter.Seq[api.Status] {
	return func(yield func(api.Status) bool) {
		for p := b.latest(); p != nil && b.latest().status.Sequence-p.status.Sequence <= watcherBacklog; p = p.next {
			if !yield(b.show(p)) {
				return
			}
			select {
			case <-p.turned:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (b *Board) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// Close ends all streams after the status that is shown now.
func (b *Board) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		close(b.newest.turned)
	}
}
