package embedded

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// stream is a record that grows at its end and that any number of readers
// follow from its beginning.
type stream[T any] struct {
	limit int // how many items are kept, 0 = all

	mu      sync.Mutex
	items   []T
	dropped int           // items that were there before items[0]
	closed  bool          // no more items will come
	changed chan struct{} // closed, and replaced, when any of the above changes
}

// newStream makes a stream that keeps at least half of limit items.
func newStream[T any](limit int) *stream[T] {
	return &stream[T]{limit: limit, changed: make(chan struct{})}
}

// add appends an item.
func (s *stream[T]) add(item T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items = append(s.items, item)
	if s.limit > 0 && len(s.items) > s.limit {
		// Half at a time, so that the copying does not cost much; a copy,
		// because readers may still hold the old array.
		n := len(s.items) - s.limit/2
		s.items = slices.Clone(s.items[n:])
		s.dropped += n
	}
	s.wake()
}

// close says that no more items will come.
func (s *stream[T]) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.wake()
}

// wake tells the readers; the caller holds the lock.
func (s *stream[T]) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// all returns the items that are kept.
func (s *stream[T]) all() []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clip(s.items)
}

// follow calls each for every item, in order, until the stream is closed or ctx
// ends; neither is an error. Falling so far behind that items are gone is one.
func (s *stream[T]) follow(ctx context.Context, each func(T)) error {
	for next := 0; ; {
		s.mu.Lock()
		lost := s.dropped - next
		batch := s.items[max(0, next-s.dropped):]
		closed, changed := s.closed, s.changed
		s.mu.Unlock()

		if lost > 0 {
			return fmt.Errorf("%d entries of the record are gone, it keeps %d", lost, s.limit)
		}
		for _, item := range batch {
			if ctx.Err() != nil {
				return nil
			}
			each(item)
		}
		next += len(batch)
		if closed && len(batch) == 0 {
			return nil
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
