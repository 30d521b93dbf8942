package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// Fetch implements queue.Queue. It wakes up at once when a task is submitted
// on the same machine, and looks again after Options.Rescan for all the rest.
func (s *Spool) Fetch(ctx context.Context, serves func(class api.Resources) bool) (queue.Delivery, error) {
	if err := s.enterFetch(); err != nil {
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
		if watch.Add(s.path(readyDir)) == nil && watch.Add(s.path(tasksDir)) == nil {
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
				woken = e.Has(fsnotify.Create) || e.Has(fsnotify.Chmod) && e.Name == s.path(readyDir)
			case <-overflow:
				woken = true
			case <-tick.C:
				woken = true
			}
		}
	}
}

// scan goes once through the front of each lane that is served. A task that cannot
// be dealt with now does not keep those behind it; its problem is returned only if
// there is no other.
func (s *Spool) scan(ctx context.Context, serves func(api.Resources) bool) (*delivery, error) {
	s.reclaimIfDue()
	problems := []error{s.adopt(ctx)}
	lanes, err := s.lanes()
	if err != nil {
		return nil, err
	}
	asked := map[string]bool{}
	wanted := func(class string) bool {
		want, known := asked[class]
		if !known {
			if parsed, ok := parseClass(class); ok {
				want = serves(parsed)
			}
			asked[class] = want
		}
		return want
	}
	for len(lanes) > 0 {
		n := 1
		for n < len(lanes) && lanes[n].priority == lanes[0].priority {
			n++
		}
		d, err := s.first(ctx, lanes[:n], wanted)
		if d != nil || ctx.Err() != nil {
			return d, ctx.Err()
		}
		problems = append(problems, err)
		lanes = lanes[n:]
	}
	return nil, errors.Join(problems...)
}

// first takes the first task that is wanted of lanes that have the same priority.
func (s *Spool) first(ctx context.Context, lanes []lane, wanted func(class string) bool) (*delivery, error) {
	var problems []error
	var fronts []front
	for _, l := range lanes {
		due, err := l.dueBuckets(s)
		f := front{lane: l, buckets: due}
		name, err2 := f.head(s)
		problems = append(problems, err, err2)
		if name != "" && wanted(l.class) {
			fronts = append(fronts, f)
		}
	}
	for ctx.Err() == nil {
		var next *front
		least := ""
		for i := range fronts {
			name, err := fronts[i].head(s)
			problems = append(problems, err)
			if name != "" && (next == nil || name < least) {
				next, least = &fronts[i], name
			}
		}
		if next == nil {
			break
		}
		next.names = next.names[1:]
		d, err := s.try(next.dir, least)
		if d != nil {
			return d, nil
		}
		problems = append(problems, err)
	}
	return nil, errors.Join(problems...)
}

// try claims a task. Nothing and no error means that it must not run, or that
// another runner was faster.
func (s *Spool) try(dir, name string) (d *delivery, err error) {
	c, err := s.takeClaim()
	if err != nil {
		return nil, err
	}
	err = rename(dir, name, c.path(tasksDir), name)
	if err == nil {
		d, err = s.examine(c, name)
	}
	switch {
	case d != nil:
	case err == nil || errors.Is(err, errGone):
		s.dropClaim(c)
		err = nil
	default:
		c.unlock() // what may be in it comes back like that of a dead runner
	}
	return d, err
}

// deathLimit is how many runners may die while they run a task. A runner that is
// killed is not the task's fault, but one that always is might be. It is above
// what nodes that come and go do to one task.
const deathLimit = 10

// examine returns what is in the claim now, unless it must not run. Then it is dealt
// with, or goes back where it was and comes again.
func (s *Spool) examine(c *claim, name string) (*delivery, error) {
	e, task, err := readEntry(c.path(tasksDir), name)
	var bad *badDocument
	switch {
	case errors.As(err, &bad): // somebody has changed it by hand
		return nil, s.buryUnreadable(c, name, bad)
	case err != nil:
		return nil, errors.Join(err, s.putBack(c, name))
	}
	d := &delivery{spool: s, claim: c, task: task, entry: e}
	d.ctx, d.stop = context.WithCancelCause(context.Background())
	cancelled, err1 := present(s.path(cancelledDir, e.id))
	letter, err2 := present(s.letter(e.id))
	finished, err3 := false, error(nil)
	if e.deaths > 0 {
		finished, err3 = s.succeeded(e.id, e.starts)
	}
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, errors.Join(err, d.release())
	}
	end, level, why := d.remove, slog.LevelInfo, ""
	bury := func(reason string) {
		end, level, why = func() error { return d.bury(reason, e.spent) }, slog.LevelWarn, reason
	}
	switch {
	case finished: // and its runner could not say so any more
		why = "it was finished before"
		if cancelled {
			end = func() error { return errors.Join(remove(s.path(cancelledDir), e.id), d.remove()) }
		}
	case cancelled:
		why = "it was cancelled"
	case e.deaths > 0 && letter:
		why = "it was buried before"
	case e.spent >= task.Attempts():
		bury(fmt.Sprintf("attempt %d of %d began, and its runner died before it ended", e.spent, task.Attempts()))
	case e.deaths >= deathLimit:
		bury(fmt.Sprintf("%d runners died while they ran it, and no more try it", e.deaths))
	case !task.Expires.IsZero() && time.Now().After(task.Expires.Time):
		bury("it expired at " + task.Expires.Format(time.RFC3339))
	default:
		if letter { // it was brought back, and that was interrupted
			if err := remove(s.path(deadDir), e.id+".json"); err != nil {
				return nil, errors.Join(err, d.release())
			}
		}
		s.hold(d)
		return d, nil
	}
	if err := end(); err != nil {
		return nil, errors.Join(err, d.release())
	}
	s.removed(level, task.ID, why)
	return nil, nil
}

func (s *Spool) removed(level slog.Level, id, why string) {
	s.log.LogAttrs(context.Background(), level, "removed a task from the queue", slog.String("task", id), slog.String("reason", why))
}

// putBack returns a file that cannot be dealt with now to the queue.
func (s *Spool) putBack(c *claim, name string) error {
	err := rename(c.path(tasksDir), name, s.path(tasksDir), name)
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}

// hold takes note of a delivery that is not settled.
func (s *Spool) hold(d *delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[d] = true
}

// attend tells the deliveries that their tasks were cancelled, until the spool is closed.
func (s *Spool) attend() {
	tick := time.NewTicker(s.rescan)
	defer tick.Stop()
	for {
		select {
		case <-s.closed:
			return
		case <-tick.C:
		}
		s.mu.Lock()
		held := make([]*delivery, 0, len(s.held))
		for d := range s.held {
			held = append(held, d)
		}
		s.mu.Unlock()
		for _, d := range held {
			if there, _ := present(s.path(cancelledDir, d.task.ID)); there {
				d.stop(queue.ErrCancelled)
			}
		}
	}
}
