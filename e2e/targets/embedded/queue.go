package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/e2e/program"
)

// template is a database with the tables of a queue, which is copied.
const template = "template"

// StartQueues starts a PostgreSQL server for queues. Init is the program that makes
// their tables.
func StartQueues(ctx context.Context, init string) (s *pgserver.Server, err error) {
	if s, err = pgserver.Start(pgserver.Hasty, "max_connections=500"); err != nil {
		return nil, err
	}
	url, err := s.Database(ctx, template)
	if err == nil {
		err = program.Run(ctx, nil, nil, nil, init, "queue", "init", "--queue="+url)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// createQueue makes the queue, with a way to it for the runners.
func (e *env) createQueue(ctx context.Context) (err error) {
	e.Layout.Spool = filepath.Join(e.dir, "tasks")
	e.Layout.Queue = "--spool=" + e.Layout.Spool
	s, name := e.handle.Queues, filepath.Base(e.dir)
	if !e.Isolation.Server {
		return e.RestoreQueue()
	}
	if err := s.Exec(ctx, "postgres", fmt.Sprintf("create database %q template %s", name, template)); err != nil {
		return fmt.Errorf("create the queue: %w", err)
	}
	e.Layout.Queue = "--queue=" + s.URL(name)
	e.way, err = s.Proxy()
	return err
}

// dropQueue removes it.
func (e *env) dropQueue(ctx context.Context) error {
	if e.way == nil {
		return nil
	}
	return errors.Join(e.way.Close(), e.handle.Queues.Exec(ctx, "postgres", fmt.Sprintf("drop database %q with (force)", filepath.Base(e.dir))))
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
