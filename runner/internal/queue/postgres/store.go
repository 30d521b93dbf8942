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

// batch is how many tasks a statement takes at most, so that it is done in a third of
// the lease.
const batch = 200

// Submit implements queue.Store. All must be valid. Then a batch is in the queue with
// its statement, or not.
func (q *Queue) Submit(ctx context.Context, tasks []*api.Task) (done []queue.Submitted, err error) {
	if err := queue.Check(tasks); err != nil {
		return nil, err
	}
	for some := range slices.Chunk(tasks, batch) {
		named := make([]api.Task, len(some))
		for i, t := range some {
			named[i] = *t
			named[i].ID = cmp.Or(t.ID, strings.ToLower(rand.Text())[:16])
		}
		documents, err := json.Marshal(named)
		if err != nil {
			return done, fmt.Errorf("submit tasks: %w", err)
		}
		type answer struct {
			queue.Submitted
			Same bool
		}
		answers, err := ask(q, q.pool, pgx.RowToStructByPos[answer], "submit", string(documents))
		if err != nil {
			return done, fmt.Errorf("submit tasks: %w", err)
		}
		for _, a := range answers {
			if !a.Same {
				return done, fmt.Errorf("submit task %s: id: is in use by another task; choose another id, or leave it out to have one made", api.Excerpt(a.ID))
			}
			done = append(done, a.Submitted)
		}
		if ctx.Err() != nil {
			return done, ctx.Err()
		}
	}
	return done, nil
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
	}, "list", ids, tooLong)
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	var unknown []error
	for _, id := range slices.Sorted(maps.Keys(missing)) {
		unknown = append(unknown, fmt.Errorf("task %s: %w", api.Excerpt(id), queue.ErrUnknown))
	}
	return tasks, errors.Join(unknown...)
}

// Cancel implements queue.Store. Nobody but the owner may be there to take back a task
// whose runner has died.
func (q *Queue) Cancel(_ context.Context, id string) error {
	err := q.change("cancel", id, false, queue.ErrEnded)
	if err == nil {
		err = q.takeBack(q.pool, &id)
	}
	return err
}

// Again implements queue.Store.
func (q *Queue) Again(_ context.Context, id string) error {
	return q.change("again", id, true, queue.ErrWaits)
}

// change says a statement about a task that must have ended, or must not.
func (q *Queue) change(name, id string, ended bool, otherwise error) error {
	was, err := one[api.TaskState](q, queue.ErrUnknown, name, id)
	if err == nil && was.Ended() != ended {
		err = otherwise
	}
	if err != nil {
		return fmt.Errorf("task %s: %w", api.Excerpt(id), err)
	}
	return nil
}

// Purge implements queue.Store.
func (q *Queue) Purge(ctx context.Context, before time.Time) (n int, err error) {
	for more := true; more; {
		gone, err := ask(q, q.pool, pgx.RowTo[string], "purge", before, batch)
		n, more = n+len(gone), len(gone) == batch
		if err = errors.Join(err, ctx.Err()); err != nil {
			return n, fmt.Errorf("purge tasks: %w", err)
		}
	}
	return n, nil
}

// Results implements queue.Store.
func (q *Queue) Results(_ context.Context, id string) ([]api.Result, error) {
	results, err := ask(q, q.pool, pgx.RowTo[api.Result], "results", id)
	if err != nil {
		return nil, fmt.Errorf("results of task %s: %w", api.Excerpt(id), err)
	}
	return results, nil
}

// Announce implements queue.Offers.
func (q *Queue) Announce(_ context.Context, o api.Offer) error {
	document, err := json.Marshal(o)
	if err == nil {
		_, err = one[string](q, nil, "announce", o.Runner, document)
	}
	return err
}

// Offers implements queue.Offers.
func (q *Queue) Offers(context.Context) ([]api.Offer, error) {
	return ask(q, q.pool, pgx.RowTo[api.Offer], "offers")
}

// Length says how many tasks wait, and how many are dead letters.
func (q *Queue) Length(context.Context) (map[api.TaskState]int, error) {
	type count struct {
		State api.TaskState
		Tasks int
	}
	tasks := make(map[api.TaskState]int)
	counts, err := ask(q, q.pool, pgx.RowToStructByPos[count], "length")
	for _, c := range counts {
		tasks[c.State] = c.Tasks
	}
	return tasks, err
}
