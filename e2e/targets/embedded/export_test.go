package embedded

import (
	"context"

	"github.com/studioml/studio-go-runner/e2e/targets"
)

// What the tests reach of the inside, to run without a control plane.
var (
	NewProxy    = newProxy
	NewHolds    = newHolds
	ProcessesOf = processesOf
)

// The methods of the unexported types.
func (p *proxy) Address() string                          { return p.address() }
func (p *proxy) Close()                                   { p.close() }
func (h *holds) Hold(group string) (path string, e error) { return h.hold(group) }
func (h *holds) Release(group string) error               { return h.release(group) }

// Stream is a stream of text.
type Stream = stream[string]

// NewStream makes one.
func NewStream(limit int) *Stream { return newStream[string](limit) }

func (s *stream[T]) Add(item T) { s.add(item) }
func (s *stream[T]) Close()     { s.close() }
func (s *stream[T]) Follow(ctx context.Context, each func(T)) error {
	return s.follow(ctx, each)
}

// Env is a place without anything in a cluster.
type Env interface {
	targets.Env
	targets.QueueControl
	Dir() string
}

// NewOfflineEnv makes one.
func NewOfflineEnv(config Config, isolation targets.Isolation) (Env, error) {
	e := &env{target: &Target{config: config}, isolation: isolation}
	return e, e.layout()
}

// Dir is the directory of the place.
func (e *env) Dir() string { return e.dir }
