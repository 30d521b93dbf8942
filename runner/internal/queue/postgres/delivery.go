package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/result"
)

// delivery is a claim.
type delivery struct {
	queue *Queue
	claim string
	row   row
	task  *api.Task

	ctx    context.Context // ends when the attempt has to
	cancel context.CancelCauseFunc

	kept       bool // what the attempt left is stored
	checkpoint bool // and a checkpoint is in it
	late       bool // the end could not be told yet
}

var _ queue.Delivery = (*delivery)(nil)

func (d *delivery) Task() *api.Task          { return d.task }
func (d *delivery) Context() context.Context { return d.ctx }

// Begin implements queue.Delivery.
func (d *delivery) Begin(gpus []string) (int, error) {
	starts, err := ask(d.ctx, d.queue, d.queue.pool, pgx.RowTo[int], sqlBegin, d.claim, gpus)
	if err == nil && len(starts) == 0 {
		err = d.lost()
	}
	if err != nil {
		return 0, fmt.Errorf("begin attempt of task %s: %w", d.task.ID, err)
	}
	return starts[0], nil
}

// lost ends what goes on for this claim.
func (d *delivery) lost() error {
	if d.ctx.Err() == nil {
		d.queue.lost.Add(1)
	}
	d.cancel(queue.ErrLost)
	d.forget()
	return queue.ErrLost
}

// forget ends the renewal.
func (d *delivery) forget() {
	d.queue.mu.Lock()
	defer d.queue.mu.Unlock()
	delete(d.queue.held, d)
	if d.late {
		d.late = false
		d.queue.late.Add(-1)
	}
}

// Local implements queue.Delivery. Nobody else can see the directory, so nothing
// has to be held.
func (d *delivery) Local() (*result.Store, []*os.File) {
	return result.New(d.queue.Work, func() (string, error) {
		dir := filepath.Join(d.queue.Work, d.claim)
		return dir, os.MkdirAll(dir, 0o700)
	}), nil
}

// end is how a claim ends.
type end struct {
	state      api.TaskState
	pause      *time.Duration // until it may start again, at the end of the queue
	spent      int
	reason     string
	result     []byte
	checkpoint bool
}

// args are those of sqlEnd.
func (e end) args(claim string) []any {
	return []any{claim, string(e.state), e.pause, e.spent, e.reason, e.result, e.checkpoint}
}

// end tells the queue, and returns nil if that is so, whoever told it first.
func (d *delivery) end(e end) (api.TaskState, error) {
	states, err := ask(d.ctx, d.queue, d.queue.pool, pgx.RowTo[string], sqlEnd, e.args(d.claim)...)
	switch {
	case err != nil:
		return "", d.later(err)
	case len(states) == 0:
		return "", d.lost()
	}
	d.forget()
	d.cancel(nil)
	return api.TaskState(states[0]), nil
}

// later counts an end that could not be told. Its claim is renewed until it can.
func (d *delivery) later(err error) error {
	d.queue.mu.Lock()
	defer d.queue.mu.Unlock()
	if !d.late {
		d.late = true
		d.queue.late.Add(1)
	}
	return err
}

// Release implements queue.Delivery.
func (d *delivery) Release() error {
	if _, err := d.end(end{state: api.TaskWaiting}); err != nil {
		return fmt.Errorf("give back task %s: %w", d.row.ID, err)
	}
	return nil
}

// Finish implements queue.Delivery.
func (d *delivery) Finish(r api.Result, made *result.Attempt) (api.TaskState, error) {
	state, err := d.finish(r, made)
	if err != nil {
		return "", fmt.Errorf("store result of attempt %d of task %s: %w", r.Attempt, d.task.ID, err)
	}
	return state, nil
}

func (d *delivery) finish(r api.Result, made *result.Attempt) (api.TaskState, error) {
	document, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	e := end{state: api.TaskWaiting, result: document}
	switch r.Outcome {
	case api.Succeeded:
		e.state = api.TaskFinished
	case api.Cancelled:
		e.state = api.TaskCancelled
	case api.Interrupted, api.MachineFailed:
	default:
		e.spent = 1
		if spent := d.row.Spent + 1; spent < d.task.Attempts() {
			e.pause = new(queue.Pause(spent))
		} else {
			e.state, e.reason = api.TaskDead, fmt.Sprintf("attempt %d: %s", r.Attempt, r.Why())
		}
	}
	if !d.kept {
		if d.checkpoint, err = d.keep(made.Files()); err != nil {
			if errors.Is(err, queue.ErrLost) {
				return "", d.lost()
			}
			return "", d.later(err)
		}
		d.kept = true
	}
	e.checkpoint = d.checkpoint
	state, err := d.end(e)
	if err == nil {
		err = made.Discard()
	}
	return state, err
}
