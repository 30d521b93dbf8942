package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/result"
)

// delivery is one file in the tasks directory of a claim.
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
	stored  bool       // the result is
	taken   error      // why it never can be
	settled bool
}

var _ queue.Delivery = (*delivery)(nil)

func (d *delivery) Task() *api.Task { return d.task }

func (d *delivery) Context() context.Context { return d.ctx }

func (d *delivery) Begin(gpus []string) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.begin()
	if err != nil {
		return 0, fmt.Errorf("begin task %s: %w", d.task.ID, err)
	}
	if len(gpus) > 0 { // for people; it says nothing that must not be lost
		os.WriteFile(d.claim.path(gpusFile), []byte(strings.Join(gpus, "\n")), fileMode)
	}
	return d.entry.starts, nil
}

func (d *delivery) begin() error {
	if d.settled {
		return errSettled
	}
	if d.begun {
		return errors.New("its attempt has begun before")
	}
	dir := d.claim.path(tasksDir)
	if !d.counted {
		next := d.entry.begun()
		if err := rename(dir, d.entry.name(), dir, next.name()); err != nil {
			return err // errGone as well: what is not in the claim must not start
		}
		d.entry, d.counted = next, true
	}
	if err := syncDirs(dir); err != nil {
		return err
	}
	d.begun = true
	return nil
}

// Local implements queue.Delivery.
func (d *delivery) Local() (results *result.Store, held []*os.File) {
	return result.New(d.spool.path(resultsDir), func() (string, error) { return d.claim.path(workDir), nil }), d.claim.locks
}

// Finish implements queue.Delivery. The result is stored first, once.
func (d *delivery) Finish(r api.Result, made *result.Attempt) (state api.TaskState, err error) {
	err = d.settle("finish", func() (err error) {
		if err := d.store(r, made); err != nil {
			return err
		}
		if d.taken != nil {
			r.Outcome, r.Reason = api.Failed, d.taken.Error()
		}
		state, err = d.end(r)
		return err
	})
	return state, err
}

// store stores the result, unless there is one of that attempt already: it always
// will be.
func (d *delivery) store(r api.Result, made *result.Attempt) error {
	if d.stored || d.taken != nil {
		return nil
	}
	err := made.Commit(r)
	if errors.Is(err, os.ErrExist) {
		d.taken, err = err, nil
	}
	if err != nil {
		return err
	}
	d.stored = true
	return d.dropCheckpoints(r)
}

func (d *delivery) end(r api.Result) (api.TaskState, error) {
	switch cancelled, err := present(d.spool.path(cancelledDir, d.task.ID)); {
	case err != nil:
		return "", err
	case r.Outcome == api.Succeeded:
		if cancelled { // too late
			if err := remove(d.spool.path(cancelledDir), d.task.ID); err != nil {
				return "", err
			}
		}
		return api.TaskFinished, d.remove()
	case cancelled || r.Outcome == api.Cancelled:
		if err := d.spool.mark(d.task.ID); err != nil {
			return "", err
		}
		return api.TaskCancelled, d.remove()
	case r.Outcome == api.Interrupted || r.Outcome == api.MachineFailed:
		return api.TaskWaiting, d.release()
	}
	return d.retry(r)
}

// remove takes the task out of the queue. That needs no sync: whoever finds it
// again after a power failure finds why, too, which is on the disk.
func (d *delivery) remove() error {
	err := unlink(d.claim.path(tasksDir), d.entry.name())
	if err != nil && d.claim.destroyed() {
		return nil
	}
	return err
}

// Release implements queue.Delivery.
func (d *delivery) Release() error { return d.settle("release", d.release) }

func (d *delivery) release() error {
	if cancelled, err := present(d.spool.path(cancelledDir, d.task.ID)); err != nil {
		return err
	} else if cancelled {
		return d.remove()
	}
	back := d.entry
	if d.counted {
		back = back.ended(false)
	}
	b, err := laneOf(d.task).place(d.spool, back.key)
	if err != nil {
		return err
	}
	return d.giveBack(back, b)
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
	// All of a second share a bucket, behind those that wait when it is due.
	now := time.Now()
	due := now.Add(queue.Pause(next.spent)).Truncate(time.Second).Add(time.Second).UnixNano()
	next.key = due + int64(now.Nanosecond())
	return api.TaskWaiting, d.giveBack(next, newBucket(due, true))
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
	d.spool.settled(d)
	return nil
}

// giveBack moves the file into a bucket under the name of the entry.
func (d *delivery) giveBack(e entry, b bucket) error {
	from := d.claim.path(tasksDir)
	err := d.spool.enter(laneOf(d.task), b, func(to string) error {
		err := rename(from, d.entry.name(), to, e.name())
		if err != nil && d.claim.destroyed() {
			return d.spool.link(d.task, filepath.Join(to, e.name()))
		}
		if errors.Is(err, errGone) {
			return nil // it was moved by the call before
		}
		return err
	})
	d.spool.ring()
	if err != nil || d.claim.destroyed() {
		return err
	}
	return syncDirs(from) // after the new place: twice is better than nowhere
}

func (d *delivery) bury(reason string, attempts int) error {
	letter := api.DeadLetter{Task: d.task, Reason: reason, Attempts: attempts, Time: time.Now().UTC()}
	if err := d.spool.writeLetter(d.task.ID, letter); err != nil {
		return err
	}
	return d.remove()
}
