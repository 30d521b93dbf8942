package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// Fetch implements queue.Queue. It wakes up at once when a task is submitted
// on the same machine, and looks again after Options.Rescan for all the rest.
func (s *Spool) Fetch(ctx context.Context, serves func(api.Resources) bool) (queue.Delivery, error) {
	if err := s.enter(); err != nil {
		return nil, fmt.Errorf("fetch task: %w", err)
	}
	defer s.fetches.Done()

	d, err := s.scan(ctx, serves)
	if d == nil && err == nil {
		d, err = s.wait(ctx, serves)
	}
	switch {
	case d != nil:
		return d, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("fetch task: %w", err)
}

// wait scans until there is a task, an error, or the end of ctx. The watch is
// set up before the first scan, so that nothing is missed in between, and anew
// for each call: after an exchange of the directory an old one sees nothing.
func (s *Spool) wait(ctx context.Context, serves func(api.Resources) bool) (*delivery, error) {
	var events chan fsnotify.Event // without a watch it stays nil, which never fires
	var overflow chan error
	if watch, err := fsnotify.NewWatcher(); err == nil {
		defer watch.Close()
		if watch.Add(s.path(tasksDir)) == nil {
			events, overflow = watch.Events, watch.Errors
		}
	}
	tick := time.NewTicker(s.rescan)
	defer tick.Stop()
	for {
		if d, err := s.scan(ctx, serves); d != nil || err != nil {
			return d, err
		}
		for woken := false; !woken; {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-s.closed:
				return nil, errClosed
			case e := <-events:
				woken = e.Has(fsnotify.Create) // a rename into the directory is one too
			case <-overflow:
				woken = true
			case <-tick.C:
				woken = true
			}
		}
	}
}

// scan goes once through the queue. A task that cannot be dealt with now does
// not keep those behind it; its problem is returned only if there is no other.
func (s *Spool) scan(ctx context.Context, serves func(api.Resources) bool) (*delivery, error) {
	s.reclaimIfDue()
	names, err := fileNames(s.path(tasksDir))
	if err != nil {
		return nil, err
	}
	c, err := s.takeClaim()
	if err != nil {
		return nil, err
	}
	taken := false
	defer func() {
		if !taken {
			s.dropClaim(c)
		}
	}()
	s.forget(names)
	var problems []error
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d, err := s.try(c, name, serves)
		if d != nil {
			taken = true
			return d, nil
		}
		problems = append(problems, err)
	}
	return nil, errors.Join(problems...)
}

// try claims one task if it is wanted. Nothing and no error means that it is
// not, or that another runner was faster.
func (s *Spool) try(c *claim, name string, serves func(api.Resources) bool) (*delivery, error) {
	e, task, refused, err := s.read(name)
	var bad *badDocument
	switch {
	case errors.As(err, &bad):
		return nil, s.discard(c, name, bad)
	case missing(err):
		return nil, nil
	case err != nil:
		return nil, err
	case refused: // the rest was looked at when it got this name
	case e.starts > 0 && s.ended != nil && s.ended(e.id):
		return nil, s.clear(c, e, task)
	case e.spent >= task.Attempts():
		return nil, s.lost(c, e, task, fmt.Sprintf("attempt %d of %d began, and its runner died before it ended", e.spent, task.Attempts()))
	case e.deaths >= deathLimit:
		return nil, s.lost(c, e, task, fmt.Sprintf("%d runners died while they ran it, and no more try it", e.deaths))
	}
	switch {
	case !serves(task.Resources):
		s.remember(name, task)
		return nil, nil
	}
	return s.take(c, e, task)
}

// badDocument is the error for a file that will never be a task.
type badDocument struct{ problem error }

func (b *badDocument) Error() string { return b.problem.Error() }

// read also says whether the task was refused before.
func (s *Spool) read(name string) (e entry, task *api.Task, refused bool, err error) {
	if task, refused = s.recall(name); refused {
		e, err = parseName(name)
		return e, task, true, err
	}
	document, err := readDocument(s.path(tasksDir, name))
	if err != nil {
		return entry{}, nil, false, err
	}
	if e, task, err = parse(name, document); err != nil {
		return entry{}, nil, false, &badDocument{err}
	}
	return e, task, false, nil
}

// deathLimit is how many runners may die while they run a task. A runner that is
// killed is not the task's fault, but one that always is might be. It is above
// what nodes that come and go do to one task.
const deathLimit = 10

// take moves the task into the claim.
func (s *Spool) take(c *claim, e entry, task *api.Task) (*delivery, error) {
	err := rename(s.path(tasksDir), e.name(), c.path(tasksDir), e.name())
	if errors.Is(err, errGone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d := newDelivery(s, c, task, e)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[d] = true
	return d, nil
}

// clear removes a task that is finished and was not acknowledged.
func (s *Spool) clear(c *claim, e entry, task *api.Task) error {
	d, err := s.take(c, e, task)
	if d == nil {
		return err
	}
	if err := d.settle("finish", d.remove); err != nil {
		return errors.Join(err, d.Release())
	}
	s.log.LogAttrs(context.Background(), slog.LevelInfo, "removed a task that was finished before",
		slog.String("task", task.ID))
	return nil
}

// lost buries a task that its runners never reported an end of, too often.
func (s *Spool) lost(c *claim, e entry, task *api.Task, reason string) error {
	d, err := s.take(c, e, task)
	if d == nil {
		return err
	}
	if err := d.settle("bury", func() error { return d.bury(reason, e.spent) }); err != nil {
		return errors.Join(err, d.Release())
	}
	s.log.LogAttrs(context.Background(), slog.LevelWarn, "buried a task",
		slog.String("task", task.ID), slog.String("reason", reason))
	return nil
}

// discard buries a file that is no task, unless it was written so recently
// that somebody may still be copying it.
func (s *Spool) discard(c *claim, name string, bad *badDocument) error {
	info, err := os.Lstat(s.path(tasksDir, name))
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if age := time.Since(info.ModTime()); age >= 0 && age < s.rescan {
		return nil
	}
	err = rename(s.path(tasksDir), name, c.path(tasksDir), name)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	// It may have been exchanged since it was read.
	document, err := readDocument(c.path(tasksDir, name))
	letter := ""
	if err == nil {
		if _, _, bad := parse(name, document); bad == nil {
			return rename(c.path(tasksDir), name, s.path(tasksDir), name)
		}
		letter, err = c.buryUnreadable(name, document, bad)
	}
	if err != nil {
		return errors.Join(err, rename(c.path(tasksDir), name, s.path(tasksDir), name))
	}
	s.log.LogAttrs(context.Background(), slog.LevelWarn, "buried a file that is no task",
		slog.String("file", api.Excerpt(name)), slog.String("letter", letter), slog.String("reason", shorten(bad.Error())))
	return nil
}

// Tasks that were refused are looked at again in every scan, perhaps for
// hours. Their documents are kept up to this number, and as long as they are
// not large: at most 32 MiB.
const (
	maxRefused     = 4096
	maxRefusedSize = 8 << 10
)

func (s *Spool) recall(name string) (*api.Task, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	task, ok := s.refused[name]
	return task, ok
}

func (s *Spool) remember(name string, task *api.Task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refused) < maxRefused && size(task) <= maxRefusedSize {
		s.refused[name] = task
	}
}

// size is about what the texts of a task take.
func size(t *api.Task) int {
	n := len(t.Command)
	for _, a := range t.Args {
		n += len(a)
	}
	for name, value := range t.Env {
		n += len(name) + len(value)
	}
	return n
}

// forget drops the documents of tasks that have left the queue.
func (s *Spool) forget(present []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refused) == 0 {
		return
	}
	still := make(map[string]bool, len(present))
	for _, name := range present {
		still[name] = true
	}
	for name := range s.refused {
		if !still[name] {
			delete(s.refused, name)
		}
	}
}
