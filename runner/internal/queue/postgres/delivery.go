package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/result"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// delivery is a claim.
type delivery struct {
	queue  *Queue
	claim  string
	id     string
	task   *api.Task
	spent  int    // attempts of before
	before string // the claim that left a checkpoint, if any did

	ctx    context.Context // ends when the attempt has to
	cancel context.CancelCauseFunc

	storing      sync.Mutex       // one at a time stores files
	files        map[string]*file // that are stored, by name
	kept         bool             // they are all that the attempt has left
	unkept       error            // but for what could not be read
	checkpointed bool             // and a checkpoint is among them

	ending atomic.Bool // its end is told, and the answer says what is so
	late   atomic.Bool // that failed, and is to be done again
}

var _ queue.Delivery = (*delivery)(nil)

func (d *delivery) Task() *api.Task          { return d.task }
func (d *delivery) Context() context.Context { return d.ctx }

// Begin implements queue.Delivery.
func (d *delivery) Begin(gpus []string) (int, error) {
	start, err := one[int](d.queue, queue.ErrLost, "begin", d.claim, gpus)
	if errors.Is(err, queue.ErrLost) {
		d.lose()
	}
	if err != nil {
		return 0, fmt.Errorf("begin attempt of task %s: %w", d.id, err)
	}
	return start, nil
}

// Local implements queue.Delivery. Nobody else can see the directory, so nothing
// has to be held.
func (d *delivery) Local() (*result.Store, []*os.File) {
	return result.New(d.queue.Work, func() (string, error) {
		return d.work(), os.MkdirAll(d.work(), 0o700)
	}), nil
}

func (d *delivery) work() string { return filepath.Join(d.queue.Work, d.claim) }

// Release implements queue.Delivery.
func (d *delivery) Release() error {
	if _, err := d.tell(end{state: api.TaskWaiting}, nil); err != nil {
		return fmt.Errorf("give back task %s: %w", d.id, err)
	}
	return nil
}

// Finish implements queue.Delivery.
func (d *delivery) Finish(r api.Result, made *result.Draft) (state api.TaskState, err error) {
	if err := made.Settle(&r); err != nil {
		return "", fmt.Errorf("look at what attempt %d of task %s has left: %w", r.Attempt, d.id, err)
	}
	e := end{state: api.TaskWaiting, result: &r}
	switch r.Outcome {
	case api.Succeeded:
		e.state = api.TaskFinished
	case api.Cancelled:
		e.state = api.TaskCancelled
	case api.Interrupted, api.MachineFailed:
	default:
		e.spent = 1
		if failed := d.spent + 1; failed < d.task.Attempts() {
			e.pause = new(queue.Pause(failed))
		} else {
			e.state = api.TaskDead
		}
	}
	if state, err = d.tell(e, made); err != nil {
		return "", fmt.Errorf("store result of attempt %d of task %s: %w", r.Attempt, d.id, err)
	}
	made.Discard()
	tree.Remove(d.work()) // what cannot be removed goes with the directory around it
	return state, nil
}

// end is how a claim ends.
type end struct {
	state  api.TaskState
	pause  *time.Duration // until the task may start again, at the end of the queue
	spent  int
	reason string
	result *api.Result
}

// tell stores what was made, ends the claim, and returns what became of the task. A
// piece that is on its way has arrived before: an end that waits for it in the server
// would not see it, and leave it there for ever.
func (d *delivery) tell(e end, made *result.Draft) (state api.TaskState, err error) {
	d.ending.Store(true)
	if err = d.keep(made); err == nil {
		state, err = d.say(e)
	}
	switch {
	case err == nil:
		d.forget()
	case errors.Is(err, queue.ErrLost):
		d.lose()
	case d.late.CompareAndSwap(false, true):
		d.queue.Late.Add(1)
	}
	return state, err
}

// say ends the claim. It asks again before that is lost: if an end waits in the server for
// one of before, whose answer got lost, only the next one sees what that has done.
func (d *delivery) say(e end) (state api.TaskState, err error) {
	var document []byte
	if e.result != nil {
		result.Say(e.result, d.unkept)
		if e.state == api.TaskDead {
			e.reason = fmt.Sprintf("attempt %d: %s", e.result.Attempt, e.result.Why())
		}
		if document, err = json.Marshal(e.result); err != nil {
			return "", err
		}
	}
	for range 2 {
		state, err = one[api.TaskState](d.queue, queue.ErrLost, "end", d.claim, string(e.state), e.pause, e.spent, e.reason, document, d.checkpointed)
		if !errors.Is(err, queue.ErrLost) {
			break
		}
	}
	return state, err
}

// lose ends what goes on for a claim that is another's by now.
func (d *delivery) lose() {
	if d.forget() {
		d.queue.Lost.Add(1)
		d.queue.Log.Warn("the claim on a task is lost", "task", d.id)
	}
	d.cancel(queue.ErrLost)
}

// forget ends the renewal, and says whether there was any.
func (d *delivery) forget() (held bool) {
	if d.late.CompareAndSwap(true, false) {
		d.queue.Late.Add(-1)
	}
	d.queue.mu.Lock()
	defer d.queue.mu.Unlock()
	_, held = d.queue.held[d.claim]
	delete(d.queue.held, d.claim)
	return held
}
