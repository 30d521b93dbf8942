package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// createQueue makes the queue, with a way to it for the runners.
func (e *env) createQueue(ctx context.Context) (err error) {
	e.Layout.Spool = filepath.Join(e.dir, "tasks")
	e.Layout.Queue = "--spool=" + e.Layout.Spool
	if !e.Isolation.Server {
		return e.RestoreQueue()
	}
	all, name := e.config.Queues.Databases(), filepath.Base(e.dir)
	if err := all.Create(ctx, name); err != nil {
		return err
	}
	e.Layout.Queue = "--queue=" + all.Of(name)
	if e.way, err = e.config.Queues.Proxy(); err == nil {
		e.open = append(e.open, e.way)
	}
	return err
}

// HideQueue takes the queue away from the runners.
func (e *env) HideQueue() error {
	if e.way != nil {
		e.way.Cut()
		return nil
	}
	return os.Remove(e.spool())
}

// RestoreQueue gives it back. What somebody has put in its place is an error: it
// would be lost.
func (e *env) RestoreQueue() error {
	if e.way != nil {
		e.way.Restore()
		return nil
	}
	err := os.Symlink(e.Layout.Spool, e.spool())
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("restore queue: it is not hidden, or a runner has made a new queue at %s", e.spool())
	}
	return err
}
