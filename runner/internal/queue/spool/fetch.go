package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// Fetch implements queue.Queue. It wakes up at once when a task is submitted
// on the same machine, and looks again after Options.Rescan for all the rest.
func (s *Spool) Fetch(ctx context.Context, serves func(class api.Resources) bool) (queue.Delivery, error) {
	s.mu.Lock()
	if s.isClosed() {
		s.mu.Unlock()
		return nil, fmt.Errorf("fetch task: %w", errClosed)
	}
	s.fetches.Add(1)
	s.mu.Unlock()
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
		if watch.Add(s.path(readyDir)) == nil {
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
			woken = true
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-s.open.Done():
				return nil, errClosed
			case e := <-events:
				woken = e.Has(fsnotify.Create) || e.Has(fsnotify.Chmod) && e.Name == s.path(readyDir)
			case <-overflow:
			case <-tick.C:
			}
		}
	}
}

// due says whether something is to be done again, and takes note that it is done.
func (s *Spool) due(last *time.Time, pause time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(*last) < pause {
		return false
	}
	*last = time.Now()
	return true
}

// scan takes the first task that may start and is served. One that cannot be dealt
// with now does not keep those behind it; its problem is returned only if there is no
// other.
func (s *Spool) scan(ctx context.Context, serves func(api.Resources) bool) (*delivery, error) {
	if s.due(&s.reclaimed, s.rescan) {
		s.reclaim()
	}
	var problem error
	if s.due(&s.tidied, 60*s.rescan) {
		s.askSweep()
		s.sayOnce("cannot see a task", s.dir, s.older()) // that was submitted since
		// What has expired, or is none of the queue, of classes, too, that nobody serves.
		var d *delivery
		d, problem = s.front(ctx, func(api.Resources) bool { return true }, func(name string) bool {
			e, ok := parseName(name)
			return !ok || e.expired(time.Now()) != ""
		})
		if d != nil { // the clock was set back
			problem = d.Release()
		}
	}
	d, err := s.front(ctx, serves, func(string) bool { return true })
	if d != nil {
		return d, nil
	}
	return nil, errors.Join(problem, err)
}

// try claims a task. Nothing and no error means that it must not run, or that
// another runner was faster.
func (s *Spool) try(path string) (*delivery, error) {
	e, ok := parseName(filepath.Base(path))
	if !ok { // people have put it there, or a newer version
		s.sayOnce("left a file in the queue alone", path, errors.New("its name is none that this version gives; "+
			"if no newer runner knows it either, move it away, and put tasks into the queue with the command submit"))
		return nil, nil
	}
	document, err := readFile(path, api.MaxTaskBytes)
	if missing(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return s.take(path, e, document)
}

// take claims the task of which this was read.
func (s *Spool) take(path string, e entry, document []byte) (*delivery, error) {
	task, bad := e.read(document)
	if bad != nil && newer(e.id, document) {
		s.sayOnce("left a task to a newer runner", e.id, bad)
		return nil, nil
	}
	judge := s.examine
	if bad != nil { // somebody has changed it by hand, or the disk
		task = &api.Task{ID: e.id}
		judge = func(d *delivery) (removed bool, err error) { return true, s.buryFile(d, document, bad) }
	}
	c, err := s.takeClaim()
	if err != nil {
		return nil, err
	}
	d := &delivery{spool: s, claim: c, task: task, entry: e}
	d.ctx, d.stop = context.WithCancelCause(context.Background())
	if err := rename(path, d.path()); errors.Is(err, errGone) {
		s.idle <- c
		return nil, nil
	} else if err != nil {
		c.lock.Close() // what may be in it comes back like that of a dead runner
		return nil, err
	}
	removed, err := judge(d)
	if err != nil {
		if fault := d.release(); fault != nil {
			c.lock.Close() // as above
			return nil, errors.Join(err, fault)
		}
	}
	if removed || err != nil {
		s.idle <- c
		return nil, err
	}
	s.mu.Lock()
	s.held[d] = true
	s.mu.Unlock()
	return d, nil
}

// deathLimit is how many runners may die while they run a task. A runner that is
// killed is not the task's fault, but one that always is might be. It is above
// what nodes that come and go do to one task.
const deathLimit = 10

// examine removes a task that must not run.
func (s *Spool) examine(d *delivery) (removed bool, err error) {
	e, died := d.entry, d.entry.deaths > 0
	cancelled, err1 := present(s.mark(e.id))
	letter, err2 := present(s.letter(e.id))
	finished, err3 := false, error(nil)
	if died { // else it would be that of an earlier run
		finished, err3 = s.succeeded(e.id, e.starts)
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		return false, err
	}
	level, end, why := slog.LevelInfo, d.remove, ""
	bury := func(reason string) {
		level, end, why = slog.LevelWarn, func() error { return d.bury(reason, e.spent) }, reason
	}
	switch expired := e.expired(time.Now()); {
	case finished: // its runner could not say so any more, and a cancel was too late
		end, why = func() error { return d.succeed(cancelled) }, "it was finished before"
	case cancelled:
		why = "it was cancelled"
	case died && letter:
		why = "it was buried before"
	case e.spent >= d.task.Attempts():
		bury(fmt.Sprintf("attempt %d of %d began, and its runner died before it ended", e.spent, d.task.Attempts()))
	case e.deaths >= deathLimit:
		bury(fmt.Sprintf("%d runners died while they ran it, and no more try it", e.deaths))
	case expired != "":
		bury(expired)
	case letter: // it was brought back, and that was interrupted
		return false, remove(s.letter(e.id))
	default:
		return false, nil
	}
	if err = end(); err == nil {
		s.log.Log(context.Background(), level, "removed a task from the queue", "task", e.id, "reason", why)
	}
	return true, err
}

// attend tells the deliveries that their tasks were cancelled, until the spool is closed.
func (s *Spool) attend() {
	tick := time.NewTicker(s.rescan)
	defer tick.Stop()
	for {
		select {
		case <-s.open.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		held := slices.Collect(maps.Keys(s.held))
		s.mu.Unlock()
		for _, d := range held {
			if isThere(s.mark(d.task.ID)) {
				d.stop(queue.ErrCancelled)
			}
		}
	}
}
