package postgres

import (
	"cmp"
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

// document is a task that is submitted.
type document struct {
	task *api.Task
	text []byte
}

// Submit implements queue.Store. All must be valid. Then a batch is in the queue with
// its statement, or not.
func (q *Queue) Submit(ctx context.Context, tasks []*api.Task) (done []queue.Submitted, err error) {
	if err := queue.Check(tasks); err != nil {
		return nil, err
	}
	documents := make([]document, len(tasks))
	for i, task := range tasks {
		t := *task
		t.ID = cmp.Or(t.ID, strings.ToLower(rand.Text())[:16])
		text, err := json.Marshal(t)
		if err != nil {
			return nil, fmt.Errorf("submit task%s: %w", queue.Named(task.ID), err)
		}
		documents[i] = document{&t, text}
	}
	for len(documents) > 0 && err == nil {
		n, bytes := 0, 0
		for n < min(len(documents), batchTasks) && bytes < batchBytes {
			bytes += len(documents[n].text)
			n++
		}
		var more []queue.Submitted
		more, err = q.submit(documents[:n], make(map[string]bool))
		done, documents = append(done, more...), documents[n:]
		err = errors.Join(err, ctx.Err())
	}
	return done, err
}

// submit submits those before the first whose id another task has. fresh are those
// that it did submit.
func (q *Queue) submit(batch []document, fresh map[string]bool) (done []queue.Submitted, err error) {
	var ids []string
	var texts [][]byte
	var gpus, memory, priorities []int64
	for _, d := range batch {
		ids, texts, gpus = append(ids, d.task.ID), append(texts, d.text), append(gpus, int64(d.task.Resources.GPUs))
		memory, priorities = append(memory, int64(d.task.Resources.GPUMemory)), append(priorities, int64(d.task.Priority))
	}
	type known struct {
		ID    string
		State api.TaskState
		Same  bool
	}
	found, err := ask(q, q.pool, pgx.RowToStructByPos[known], "known", ids, texts)
	if err != nil {
		return nil, fmt.Errorf("submit tasks: %w", err)
	}
	before := make(map[string]known)
	for _, k := range found {
		before[k.ID] = k
	}
	n := len(ids)
	if i := slices.IndexFunc(ids, func(id string) bool { return before[id].ID != "" && !before[id].Same }); i >= 0 {
		n, err = i, fmt.Errorf("submit task %s: id: is in use by another task; choose another id, or leave it out to have one made", api.Excerpt(ids[i]))
	}
	inserted, fault := ask(q, q.pool, pgx.RowTo[string], "submit", ids[:n], texts[:n], gpus[:n], memory[:n], priorities[:n])
	if fault != nil {
		return nil, fmt.Errorf("submit tasks: %w", fault)
	}
	for _, id := range inserted {
		fresh[id] = true
	}
	for _, id := range ids[:n] {
		switch {
		case fresh[id]:
			done = append(done, queue.Submitted{ID: id})
		case before[id].Same:
			done = append(done, queue.Submitted{ID: id, Before: before[id].State})
		default: // somebody else was faster; as what, is known now
			return q.submit(batch, fresh)
		}
	}
	return done, err
}

// List implements queue.Store.
func (q *Queue) List(_ context.Context, ids ...string) ([]api.TaskStatus, error) {
	missing := make(map[string]bool)
	for _, id := range ids {
		missing[id] = true
	}
	tasks, err := ask(q, q.pool, func(row pgx.CollectableRow) (t api.TaskStatus, err error) {
		var document []byte
		err = row.Scan(&t.ID, &t.State, &document, &t.Position, (*zeronull.Timestamptz)(&t.NotBefore), &t.Since, &t.Starts, &t.Spent, &t.Runner, &t.GPUs, &t.Reason,
			&t.Resources.GPUs, &t.Resources.GPUMemory)
		delete(missing, t.ID)
		if task, err := api.ParseTask(document); err == nil {
			t.Task, t.Resources = task, task.Resources
		}
		return t, err
	}, "list", ids)
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	var unknown []error
	for _, id := range slices.Sorted(maps.Keys(missing)) {
		unknown = append(unknown, fmt.Errorf("task %s: %w", api.Excerpt(id), queue.ErrUnknown))
	}
	return tasks, errors.Join(unknown...)
}

// Cancel implements queue.Store.
func (q *Queue) Cancel(_ context.Context, id string) error {
	return q.change("cancel", id, false, queue.ErrEnded)
}

// Again implements queue.Store.
func (q *Queue) Again(_ context.Context, id string) error {
	return q.change("again", id, true, queue.ErrWaits)
}

// change says a statement about a task that must have ended, or must not.
func (q *Queue) change(name, id string, ended bool, otherwise error) error {
	was, err := ask(q, q.pool, pgx.RowTo[string], name, id)
	switch {
	case err != nil:
	case len(was) == 0:
		err = queue.ErrUnknown
	case api.TaskState(was[0]).Ended() != ended:
		err = otherwise
	}
	if err != nil {
		return fmt.Errorf("task %s: %w", api.Excerpt(id), err)
	}
	return nil
}

// Purge implements queue.Store.
func (q *Queue) Purge(ctx context.Context, before time.Time) (n int, err error) {
	for {
		gone, err := ask(q, q.pool, pgx.RowTo[string], "purge", before, batchTasks)
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
	documents, err := ask(q, q.pool, pgx.RowTo[[]byte], "results", id)
	results := make([]api.Result, len(documents))
	for i, document := range documents {
		err = errors.Join(err, json.Unmarshal(document, &results[i]))
	}
	if err != nil {
		return nil, fmt.Errorf("results of task %s: %w", api.Excerpt(id), err)
	}
	return results, nil
}
