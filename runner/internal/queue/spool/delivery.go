package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

	mu      sync.Mutex // Close may come while the owner settles
	entry   entry      // the file's present name
	counted bool       // entry counts the attempt of this delivery
	begun   bool       // and that is durable
	stored  bool       // the result is
	taken   error      // why it never can be
	settled bool
}

var _ queue.Delivery = (*delivery)(nil)

func newDelivery(s *Spool, c *claim, task *api.Task, e entry) *delivery {
	return &delivery{spool: s, claim: c, task: task, entry: e}
}

func (d *delivery) Task() *api.Task { return d.task }

func (d *delivery) Begin([]string) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.begin()
	if err != nil {
		return 0, fmt.Errorf("begin task %s: %w", d.task.ID, err)
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

// Finish implements queue.Delivery. The result is stored first, once.
func (d *delivery) Finish(r api.Result, made *result.Attempt) (state api.TaskState, err error) {
	err = d.settle("finish", func() error {
		if err := d.store(r, made); err != nil {
			return err
		}
		if d.taken != nil {
			r.Outcome, r.Reason = api.Failed, d.taken.Error()
		}
		switch r.Outcome {
		case api.Succeeded:
			state = api.TaskFinished
			return d.remove()
		case api.Cancelled:
			state = api.TaskCancelled
			return d.remove()
		case api.Interrupted, api.MachineFailed:
			state = api.TaskWaiting
			return d.release()
		}
		state, err = d.retry(r)
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
	d.stored = err == nil
	return err
}

func (d *delivery) remove() error {
	err := remove(d.claim.path(tasksDir), d.entry.name())
	if err != nil && d.claim.destroyed() {
		return nil
	}
	return err
}

// Release implements queue.Delivery.
func (d *delivery) Release() error { return d.settle("release", d.release) }

func (d *delivery) release() error {
	back := d.entry
	if d.counted {
		back = back.ended(false)
	}
	return d.giveBack(back)
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
	last, err := d.spool.lastKey()
	if err != nil {
		return "", err
	}
	next.key = max(time.Now().UnixNano(), last+1)
	return api.TaskWaiting, d.giveBack(next)
}

// Local implements queue.Delivery.
func (d *delivery) Local() (results *result.Store, held []*os.File) {
	return result.New(d.spool.path(resultsDir), func() (string, error) { return d.claim.path(workDir), nil }), d.claim.locks
}

// Context implements queue.Delivery.
func (d *delivery) Context() context.Context { return context.Background() }

// Checkpoint implements queue.Delivery.
func (d *delivery) Checkpoint(string) error { return nil }

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
	d.spool.putBack(d)
	return nil
}

// giveBack moves the file into the queue under the name of the entry.
func (d *delivery) giveBack(e entry) error {
	from, to := d.claim.path(tasksDir), d.spool.path(tasksDir)
	if err := rename(from, d.entry.name(), to, e.name()); err != nil && d.claim.destroyed() {
		return d.writeAgain(e)
	} else if err != nil && !errors.Is(err, errGone) {
		return err
	}
	return syncDirs(to, from) // the new place first: twice is better than nowhere
}

// writeAgain puts the task into the queue when its file is lost.
func (d *delivery) writeAgain(e entry) error {
	document, err := format(d.task)
	if err != nil {
		return err
	}
	made, tmp := "again-"+token(), d.spool.path(tmpDir)
	if err := writeFile(filepath.Join(tmp, made), document); err != nil {
		return err
	}
	if err := rename(tmp, made, d.spool.path(tasksDir), e.name()); err != nil {
		return err
	}
	return syncDirs(d.spool.path(tasksDir))
}

func (d *delivery) bury(reason string, attempts int) error {
	letter := api.DeadLetter{Task: d.task, Reason: reason, Attempts: attempts, Time: time.Now().UTC()}
	return d.claim.bury(d.entry.name(), d.task.ID, letter)
}
