package postgres

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// A statement takes no more tasks, nor bytes of documents but for the first, so that
// it is done in a third of the lease.
const (
	batchTasks = 1000
	batchBytes = 4 << 20
)

// Submit implements queue.Store. Each statement puts all of a batch into the queue,
// or nothing of it.
func (q *Queue) Submit(ctx context.Context, tasks []*api.Task) (done []queue.Submitted, err error) {
	for len(tasks) > 0 && err == nil {
		if err = ctx.Err(); err != nil {
			break
		}
		var b batch
		for len(b.ids) < min(len(tasks), batchTasks) && b.bytes < batchBytes {
			if err := b.add(tasks[len(b.ids)]); err != nil {
				return done, fmt.Errorf("submit task: %w", err)
			}
		}
		var more []queue.Submitted
		more, err = q.submit(&b)
		done, tasks = append(done, more...), tasks[len(b.ids):]
	}
	if err != nil {
		return done, fmt.Errorf("submit task: %w", err)
	}
	return done, nil
}

// batch is columns of tasks.
type batch struct {
	ids              []string
	documents        [][]byte
	gpus, priorities []int32
	memory           []int64
	bytes            int
}

func (b *batch) add(task *api.Task) error {
	t := *task
	if t.ID == "" {
		t.ID = strings.ToLower(rand.Text())[:16]
	}
	if err := t.Validate(); err != nil {
		return err
	}
	document, err := json.Marshal(t)
	if err != nil {
		return err
	}
	b.ids, b.documents, b.bytes = append(b.ids, t.ID), append(b.documents, document), b.bytes+len(document)
	b.gpus, b.priorities = append(b.gpus, int32(t.Resources.GPUs)), append(b.priorities, int32(t.Priority))
	b.memory = append(b.memory, int64(t.Resources.GPUMemory))
	return nil
}

func (q *Queue) submit(b *batch) ([]queue.Submitted, error) {
	inserted, err := ask(q, q.pool, pgx.RowTo[string], sqlSubmit, b.ids, b.documents, b.gpus, b.memory, b.priorities)
	if err != nil {
		return nil, err
	}
	fresh := make(map[string]bool, len(inserted))
	for _, id := range inserted {
		fresh[id] = true
	}
	type known struct {
		ID    string
		State api.TaskState
		Same  bool
	}
	before := make(map[string]known)
	if len(inserted) < len(b.ids) {
		rows, err := ask(q, q.pool, pgx.RowToStructByPos[known], sqlKnown, b.ids, b.documents)
		if err != nil {
			return nil, err
		}
		for _, k := range rows {
			before[k.ID] = k
		}
	}
	var done []queue.Submitted
	var problems []error
	for _, id := range b.ids {
		switch k := before[id]; {
		case fresh[id]:
			done = append(done, queue.Submitted{ID: id})
		case k.Same:
			done = append(done, queue.Submitted{ID: id, Before: k.State})
		default:
			problems = append(problems, fmt.Errorf("id: %s is in use, by another task that is %s; choose another id, or leave it out to have one made", api.Excerpt(id), k.State))
		}
	}
	return done, errors.Join(problems...)
}

// List implements queue.Store.
func (q *Queue) List(_ context.Context, ids ...string) ([]api.TaskStatus, error) {
	missing := make(map[string]bool)
	for _, id := range ids {
		missing[id] = true
	}
	tasks, err := ask(q, q.pool, func(row pgx.CollectableRow) (t api.TaskStatus, err error) {
		var document []byte
		err = row.Scan(&t.ID, &t.State, &document, &t.Position, (*zeronull.Timestamptz)(&t.NotBefore), &t.Since, &t.Starts, &t.Spent, &t.Runner, &t.GPUs, &t.Reason)
		delete(missing, t.ID)
		if task, err := api.ParseTask(document); err == nil {
			t.Task = task
		}
		return t, err
	}, sqlList, ids)
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	if len(missing) > 0 {
		err = fmt.Errorf("%s: %w", strings.Join(slices.Sorted(maps.Keys(missing)), ", "), queue.ErrUnknown)
	}
	return tasks, err
}

// Cancel implements queue.Store.
func (q *Queue) Cancel(_ context.Context, id string) error {
	return q.change("cancel", sqlCancel, id, func(was api.TaskState) error {
		if was.Ended() {
			return queue.ErrEnded
		}
		return nil
	})
}

// Again implements queue.Store.
func (q *Queue) Again(_ context.Context, id string) error {
	return q.change("retry", sqlAgain, id, func(was api.TaskState) error {
		if !was.Ended() {
			return queue.ErrWaits
		}
		return nil
	})
}

// change says a statement that changes a task and returns what it was.
func (q *Queue) change(verb, sql, id string, judge func(api.TaskState) error) error {
	was, err := ask(q, q.pool, pgx.RowTo[string], sql, id)
	switch {
	case err != nil:
	case len(was) == 0:
		err = queue.ErrUnknown
	default:
		err = judge(api.TaskState(was[0]))
	}
	if err != nil {
		return fmt.Errorf("%s task %s: %w", verb, api.Excerpt(id), err)
	}
	return nil
}

// Purge implements queue.Store.
func (q *Queue) Purge(ctx context.Context, before time.Time) (n int, err error) {
	for {
		gone, err := ask(q, q.pool, pgx.RowTo[string], sqlPurge, before, batchTasks)
		n += len(gone)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return n, fmt.Errorf("purge tasks: %w", err)
		}
		if len(gone) < batchTasks {
			return n, nil
		}
	}
}

// Results implements queue.Store.
func (q *Queue) Results(_ context.Context, id string) ([]api.Result, error) {
	documents, err := ask(q, q.pool, pgx.RowTo[[]byte], sqlResults, id)
	results := make([]api.Result, len(documents))
	for i, document := range documents {
		err = errors.Join(err, json.Unmarshal(document, &results[i]))
	}
	if err != nil {
		return nil, fmt.Errorf("results of task %s: %w", api.Excerpt(id), err)
	}
	return results, nil
}
