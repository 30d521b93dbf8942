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
	all, name := e.handle.Queues.Databases(), filepath.Base(e.dir)
	if err := all.Create(ctx, name); err != nil {
		return err
	}
	e.Layout.Queue = "--queue=" + all.Of(name)
	e.way, err = e.handle.Queues.Proxy()
	return err
}

// dropQueue removes it.
func (e *env) dropQueue(ctx context.Context) error {
	if e.way == nil {
		return nil
	}
	return errors.Join(e.way.Close(), e.handle.Queues.Databases().Drop(ctx, filepath.Base(e.dir)))
}

// queueFlag is the flag of a runner that names the queue, and its value.
func (e *env) queueFlag() (name, value string) {
	if e.way == nil {
		return "spool", e.spool()
	}
	return "queue", e.way.URL(filepath.Base(e.dir))
}

// HideQueue takes the queue away from the runners.
func (e *env) HideQueue() error {
	if e.way != nil {
		e.way.Cut()
		return nil
	}
	if err := os.Remove(e.spool()); err != nil {
		return fmt.Errorf("hide queue: %w", err)
	}
	return nil
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
