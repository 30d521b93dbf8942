package spool

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// submitBatch is how many tasks are made durable together.
const submitBatch = 1000

// Submit implements queue.Store.
func (s *Spool) Submit(ctx context.Context, tasks []*api.Task) (done []queue.Submitted, err error) {
	if err := queue.Check(tasks); err != nil {
		return nil, err
	}
	lock, err := s.lockSubmit(ctx)
	if err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	defer lock.Close()
	known := s.look()
	for some := range slices.Chunk(tasks, submitBatch) {
		more, err := s.submit(ctx, lock, known, some)
		done = append(done, more...)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// submit writes all documents, makes them durable, and then lets them into the
// queue. Those that it returns are in it, even if it returns an error.
func (s *Spool) submit(ctx context.Context, lock *os.File, known *view, tasks []*api.Task) (done []queue.Submitted, err error) {
	var all []*entering
	for _, given := range tasks {
		t := *given
		t.ID = cmp.Or(t.ID, token()) // 80 random bits
		before, problem := s.writeNew(&t, known, len(tasks) == 1)
		starts := 0
		if problem == nil && before == "" {
			starts, problem = s.lastAttempt(t.ID)
		}
		if problem = cmp.Or(problem, ctx.Err()); problem != nil {
			err = fmt.Errorf("submit task%s: %w", queue.Named(given.ID), problem)
			break
		}
		all = append(all, &entering{entry: entry{starts: starts}.of(&t), task: &t, in: before != ""})
		done = append(done, queue.Submitted{ID: t.ID, Before: before})
	}
	if len(tasks) > 1 {
		if problem := syncAll(s.path(resultsDir)); problem != nil {
			return nil, errors.Join(err, problem)
		}
	}
	err = errors.Join(err, s.enqueue(lock, all...))
	for i, t := range all {
		if !t.in {
			return done[:i], err
		}
	}
	return done, err
}

// writeNew writes the document of a task, unless it is there already. If it is, and
// the task came into the queue, before says what became of that.
func (s *Spool) writeNew(t *api.Task, known *view, durable bool) (before api.TaskState, err error) {
	document, err := format(t)
	if err == nil {
		_, err = parse(t.ID, document) // what Fetch would not read must not get in
	}
	if err != nil {
		return "", err
	}
	there, err := s.readDocument(t.ID)
	switch {
	case err != nil:
		return "", err
	case there == nil:
		return "", s.writeDocument(t.ID, document, durable)
	case !bytes.Equal(there, document):
		return "", errors.New("id: is in use by another task; choose another id, or leave it out to have one made")
	}
	if before, err = known.state(t.ID); err == nil && before == "" && durable {
		err = syncAll(s.path(resultsDir)) // whoever wrote it may have died before it was on the disk
	}
	return before, err
}
