package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// An env has the methods of all faults, so that one type will do. A scenario has
// to name the need for what it uses of them, and only then is there what these are
// about.

// StopAPIServer stops the scenario's own API server.
func (e *env) StopAPIServer(ctx context.Context) error { return e.plane.StopAPIServer(ctx) }

// StartAPIServer starts it again.
func (e *env) StartAPIServer(ctx context.Context) error { return e.plane.StartAPIServer(ctx) }

// SetNetwork changes what is between the runners and the API server.
func (e *env) SetNetwork(n scenario.Network) error {
	e.network.set(n)
	return nil
}

// SetToken replaces the runners' token.
func (e *env) SetToken(ctx context.Context, what scenario.Token) error {
	return e.token.set(ctx, what)
}

// HideQueue takes the queue away from the runners. It is still there for
// submits: the outage is the runners'.
func (e *env) HideQueue() error {
	if err := os.Remove(e.spool()); err != nil {
		return fmt.Errorf("hide queue: %w", err)
	}
	return nil
}

// RestoreQueue gives it back. What somebody has put in its place is an error: it
// would be lost.
func (e *env) RestoreQueue() error {
	err := os.Symlink(e.Layout.Spool, e.spool())
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("restore queue: it is not hidden, or a runner has made a new queue at %s", e.spool())
	}
	return err
}
