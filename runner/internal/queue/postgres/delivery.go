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

	"github.com/jackc/pgx/v5"

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

	kept         bool // what the attempt left is stored
	checkpointed bool // and a checkpoint is in it

	storing sync.Mutex       // one at a time stores files
	tails   map[string]*tail // by name

	ending atomic.Bool // its end is told, and the answer says what is so
	late   bool        // that failed, and is to be done again; guarded by the queue's mutex
}

var _ queue.Delivery = (*delivery)(nil)

func (d *delivery) Task() *api.Task          { return d.task }
func (d *delivery) Context() context.Context { return d.ctx }

// Begin implements queue.Delivery.
func (d *delivery) Begin(gpus []string) (int, error) {
	starts, err := ask(d.queue, d.queue.pool, pgx.RowTo[int], "begin", d.claim, gpus)
	if err == nil && len(starts) == 0 {
		err = d.lose()
	}
	if err != nil {
		return 0, fmt.Errorf("begin attempt of task %s: %w", d.id, err)
	}
	return starts[0], nil
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
	if _, err := d.tell(end{state: api.TaskWaiting}); err != nil {
		return fmt.Errorf("give back task %s: %w", d.id, err)
	}
	return nil
}

// Finish implements queue.Delivery.
func (d *delivery) Finish(r api.Result, made *result.Attempt) (api.TaskState, error) {
	state, err := d.finish(r, made)
	if err != nil {
		return "", fmt.Errorf("store result of attempt %d of task %s: %w", r.Attempt, d.id, err)
	}
	made.Discard()
	tree.Remove(d.work()) // what cannot be removed goes with the directory around it
	return state, nil
}

func (d *delivery) finish(r api.Result, made *result.Attempt) (state api.TaskState, err error) {
	e := end{state: api.TaskWaiting}
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
			e.state, e.reason = api.TaskDead, fmt.Sprintf("attempt %d: %s", r.Attempt, r.Why())
		}
	}
	if e.result, err = json.Marshal(r); err != nil {
		return "", err
	}
	d.ending.Store(true)
	if !d.kept {
		if d.checkpointed, err = d.keep(made.Files()); err != nil {
			return "", d.failed(err)
		}
		d.kept = true
	}
	e.checkpoint = d.checkpointed
	return d.tell(e)
}

// end is how a claim ends.
type end struct {
	state      api.TaskState
	pause      *time.Duration // until the task may start again, at the end of the queue
	spent      int
	reason     string
	result     []byte
	checkpoint bool
}

// tell ends the claim, and returns what became of the task.
func (d *delivery) tell(e end) (api.TaskState, error) {
	d.ending.Store(true)
	states, err := ask(d.queue, d.queue.pool, pgx.RowTo[string], "end", d.claim, string(e.state), e.pause, e.spent, e.reason, e.result, e.checkpoint)
	if err == nil && len(states) == 0 {
		err = queue.ErrLost
	}
	if err != nil {
		return "", d.failed(err)
	}
	d.forget()
	return api.TaskState(states[0]), nil
}

// failed notes that the end could not be told: not yet, or never.
func (d *delivery) failed(err error) error {
	if errors.Is(err, queue.ErrLost) {
		return d.lose()
	}
	d.queue.mu.Lock()
	defer d.queue.mu.Unlock()
	if !d.late {
		d.late = true
		d.queue.Late.Add(1)
	}
	return err
}

// lose ends what goes on for a claim that is another's by now.
func (d *delivery) lose() error {
	if d.forget() {
		d.queue.Lost.Add(1)
		d.queue.Log.Warn("the claim on a task is lost", "task", d.id)
	}
	d.cancel(queue.ErrLost)
	return queue.ErrLost
}

// forget ends the renewal, and says whether there was any.
func (d *delivery) forget() (held bool) {
	d.queue.mu.Lock()
	defer d.queue.mu.Unlock()
	if d.late {
		d.late = false
		d.queue.Late.Add(-1)
	}
	_, held = d.queue.held[d.claim]
	delete(d.queue.held, d.claim)
	return held
}
