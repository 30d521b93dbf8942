package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/result"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// delivery is one file of a claim.
//
// Each call may fail between its rename and the sync that makes it durable,
// and is then repeated by the caller. The repetition finds the file gone, or
// entry changed, and only the sync is left to do. A file that somebody else
// took out of the claim looks the same: nothing is left to settle.
type delivery struct {
	spool *Spool
	claim *claim
	task  *api.Task
	ctx   context.Context
	stop  context.CancelCauseFunc

	mu      sync.Mutex // Close may come while the owner settles
	entry   entry      // the file's present name
	counted bool       // entry counts the attempt of this delivery
	begun   bool       // and that is durable
	stored  *api.Result
	settled bool
}

var _ queue.Delivery = (*delivery)(nil)

// errSettled is what a delivery answers after the call that ended it.
var errSettled = errors.New("it was settled before")

func (d *delivery) Task() *api.Task { return d.task }

func (d *delivery) Context() context.Context { return d.ctx }

// path is where the file is.
func (d *delivery) path() string { return d.spool.heldPath(d.claim.name, d.entry) }

func (d *delivery) Begin(gpus []string) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(); err != nil {
		return 0, fmt.Errorf("begin task %s: %w", d.task.ID, err)
	}
	d.claim.say(d.spool.runner, gpus)
	return d.entry.starts, nil
}

func (d *delivery) begin() error {
	if d.settled {
		return errSettled
	}
	if d.begun {
		return errors.New("its attempt has begun before")
	}
	if !d.counted {
		next := d.entry.begun()
		if err := rename(d.path(), d.spool.heldPath(d.claim.name, next)); err != nil {
			return err // errGone as well: what is not in the claim must not start
		}
		d.entry, d.counted = next, true
	}
	err := tree.Sync(d.spool.path(heldDir))
	d.begun = err == nil
	return err
}

// Local implements queue.Delivery.
func (d *delivery) Local() (results *result.Store, held []*os.File) {
	work := d.spool.workPath(d.claim.name)
	return result.New(d.spool.path(resultsDir), func() (string, error) { return work, nil }), []*os.File{d.claim.lock}
}

// Finish implements queue.Delivery. The result is stored first, once. If there is one
// of that attempt already, it never can be.
func (d *delivery) Finish(r api.Result, made *result.Draft) (state api.TaskState, err error) {
	err = d.settle("finish", func() error {
		if d.stored == nil {
			err := made.Settle(&r)
			if err == nil {
				err = made.Commit(r)
			}
			if errors.Is(err, os.ErrExist) {
				r.Outcome, r.Reason = api.Failed, err.Error()
			} else if err != nil {
				return err
			}
			d.stored = &r
			d.dropCheckpoints(r)
		}
		state, err = d.end(*d.stored)
		return err
	})
	return state, err
}

// Release implements queue.Delivery. An attempt that has its result ends as that says,
// which its runner may have had no time to do.
func (d *delivery) Release() error {
	return d.settle("release", func() error {
		r, err := d.result()
		if err != nil {
			return err
		} else if r == nil {
			return d.release()
		}
		_, err = d.end(*r)
		return err
	})
}

// result is what is stored of the attempt, nil for nothing. A call of Finish that failed
// may have stored it as well.
func (d *delivery) result() (*api.Result, error) {
	if d.stored != nil || !d.counted {
		return d.stored, nil
	}
	r, err := d.spool.results().Read(d.task.ID, d.entry.starts)
	if missing(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return r, tree.Sync(d.spool.path(resultsDir, d.task.ID), d.spool.path(resultsDir))
}

// settle runs the call that ends the delivery.
func (d *delivery) settle(verb string, end func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := errSettled
	if !d.settled {
		err = end()
	}
	if err != nil {
		return fmt.Errorf("%s task %s: %w", verb, d.task.ID, err)
	}
	d.settled = true
	s := d.spool
	s.mu.Lock()
	delete(s.held, d)
	closed := s.isClosed()
	s.mu.Unlock()
	if !closed {
		s.idle <- d.claim
	} else {
		s.sayOnce("could not remove a claim", d.claim.name, s.closeClaim(d.claim))
	}
	return nil
}

func (d *delivery) end(r api.Result) (api.TaskState, error) {
	cancelled, err := present(d.spool.mark(d.task.ID))
	switch {
	case err != nil:
		return "", err
	case r.Outcome == api.Succeeded:
		return api.TaskFinished, d.succeed(cancelled)
	case cancelled || r.Outcome == api.Cancelled:
		if err := d.spool.cancel(d.task.ID); err != nil {
			return "", err
		}
		return api.TaskCancelled, d.remove()
	case r.Outcome == api.Interrupted || r.Outcome == api.MachineFailed:
		return api.TaskWaiting, d.release()
	}
	return d.retry(r)
}

// succeed ends the task, for which a cancel came too late.
func (d *delivery) succeed(cancelled bool) error {
	if cancelled {
		if err := remove(d.spool.mark(d.task.ID)); err != nil {
			return err
		}
	}
	return d.remove()
}

// remove takes the task out of the queue. That needs no sync: whoever finds it
// again after a power failure finds why, too, which is on the disk.
func (d *delivery) remove() error { return d.unlessGone(unlink(d.path())) }

// unlessGone is no error where the file was moved by the call before, or by people. If
// the whole queue was exchanged, it may come back.
func (d *delivery) unlessGone(err error) error {
	if !errors.Is(err, errGone) {
		return err
	}
	lock, err1 := d.claim.lock.Stat()
	deleted := err1 == nil && lock.Sys().(*syscall.Stat_t).Nlink == 0
	if deleted || isAt(d.claim.lock, d.spool.lockPath(d.claim.name)) {
		return nil
	}
	return err
}

func (d *delivery) release() error {
	cancelled, err := present(d.spool.mark(d.task.ID))
	switch {
	case err != nil:
		return err
	case cancelled:
		return d.remove()
	case d.counted:
		return d.giveBack(d.entry.ended(false))
	}
	return d.giveBack(d.entry)
}

func (d *delivery) retry(r api.Result) (api.TaskState, error) {
	next := d.entry
	if !d.counted {
		next = next.begun() // a failure before the start counts too, or it could go on for ever
	}
	next = next.ended(true)
	if next.spent >= d.task.Attempts() {
		return api.TaskDead, d.bury(fmt.Sprintf("attempt %d: %s", r.Attempt, r.Why()), next.spent)
	}
	now := time.Now()
	next.key, next.pauses = now.UnixMicro(), 1
	next.from = now.Add(queue.Pause(next.spent)).Truncate(time.Second).Add(time.Second).UnixMicro()
	return api.TaskWaiting, d.giveBack(next)
}

// giveBack moves the file into the bucket that the entry says, under its name.
func (d *delivery) giveBack(e entry) error {
	defer d.spool.ring()
	err := d.spool.enter(e.bucket, func(dir string) error {
		return d.unlessGone(rename(d.path(), filepath.Join(dir, e.name())))
	})
	if err != nil {
		return err
	}
	return tree.Sync(d.spool.path(heldDir)) // after the new place: twice is better than nowhere
}

func (d *delivery) bury(reason string, attempts int) error {
	letter := api.DeadLetter{Task: d.task, Reason: reason, Attempts: attempts}
	if err := d.spool.writeLetter(d.task.ID, letter); err != nil {
		return err
	}
	return d.remove()
}
