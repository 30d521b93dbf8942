package spool

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

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
	unlock, err := s.lockSubmit(ctx)
	if err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	defer unlock()
	defer s.ring()
	b := &batch{spool: s, ends: map[lane]*laneEnd{}}
	if err := s.adoptLocked(); err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	for len(tasks) > 0 && err == nil {
		n := min(len(tasks), submitBatch)
		var more []queue.Submitted
		more, err = b.submit(ctx, tasks[:n])
		done, tasks = append(done, more...), tasks[n:]
	}
	return done, err
}

// batch submits tasks while it has the lock.
type batch struct {
	spool *Spool
	known map[string]api.TaskState // what is in the queue, once somebody asked
	ends  map[lane]*laneEnd
}

// laneEnd is where the next task of a lane goes, and those that were not put there yet.
type laneEnd struct {
	bucket
	key     int64
	room    int
	waiting []*submitted
}

type submitted struct {
	queue.Submitted
	task  *api.Task
	entry entry
	in    bool // it is in the queue, or was before
}

// submit writes all documents, makes them durable, and then lets them into the
// queue. Those that it returns are in it, even if it returns an error.
func (b *batch) submit(ctx context.Context, tasks []*api.Task) (done []queue.Submitted, err error) {
	var all []*submitted
	fresh := 0
	for _, given := range tasks {
		t := *given
		if t.ID == "" {
			t.ID = token() // 80 random bits
		}
		before, known, problem := b.write(&t, len(tasks) == 1)
		if problem = cmp.Or(problem, ctx.Err()); problem != nil {
			err = fmt.Errorf("submit task%s: %w", queue.Named(given.ID), problem)
			break
		}
		one := &submitted{Submitted: queue.Submitted{ID: t.ID, Before: before}, task: &t, in: before != ""}
		all = append(all, one)
		if known {
			one.entry.starts = b.spool.lastAttempt(t.ID)
		} else {
			fresh++
		}
	}
	if fresh > 0 && len(tasks) > 1 {
		if problem := syncAll(b.spool.path(resultsDir)); problem != nil {
			return nil, errors.Join(err, problem)
		}
	}
	err = errors.Join(err, b.enter(all))
	for _, t := range all {
		if !t.in {
			break
		}
		done = append(done, t.Submitted)
	}
	return done, err
}

// write writes the document of a task, unless it is there already. If it is, and
// the task came into the queue, it says what became of that.
func (b *batch) write(t *api.Task, durable bool) (before api.TaskState, known bool, err error) {
	document, err := format(t)
	if err != nil {
		return "", false, err
	}
	// What Fetch would not read must not get in.
	if _, _, err := parse(entry{id: t.ID}.name(), document); err != nil {
		return "", false, err
	}
	there, err := b.spool.readDocument(t.ID)
	switch {
	case err != nil:
		return "", false, err
	case there == nil:
		return "", false, b.spool.writeDocument(t.ID, document, durable)
	case !bytes.Equal(there, document):
		return "", true, errors.New("id: is in use by another task; choose another id, or leave it out to have one made")
	}
	before, err = b.state(t.ID)
	return before, true, err
}

// state says what became of a task whose document is there.
func (b *batch) state(id string) (api.TaskState, error) {
	if b.known == nil {
		l, err := list(b.spool.dir)
		if err != nil {
			return "", err
		}
		b.known = l.ids()
	}
	return cmp.Or(b.known[id], b.spool.ended(id)), nil
}

// enter lets the tasks in that are not, each behind the last one of its lane.
func (b *batch) enter(all []*submitted) error {
	var problems []error
	for _, t := range all {
		if t.in {
			continue
		}
		l := laneOf(t.task)
		end := b.ends[l]
		if end == nil {
			end = &laneEnd{}
			b.ends[l] = end
		}
		if end.room == 0 {
			problems = append(problems, b.flush(l, end))
			var err error
			if end.bucket, end.key, end.room, err = l.end(b.spool); err != nil {
				return errors.Join(append(problems, err)...)
			}
		}
		t.entry.key, t.entry.id = end.key, t.ID
		end.waiting = append(end.waiting, t)
		end.key, end.room = end.key+1, end.room-1
	}
	for l, end := range b.ends {
		problems = append(problems, b.flush(l, end))
	}
	return errors.Join(problems...)
}

// flush puts what waits into its bucket.
func (b *batch) flush(l lane, end *laneEnd) error {
	if len(end.waiting) == 0 {
		return nil
	}
	err := b.spool.enter(l, end.bucket, func(dir string) error {
		for _, t := range end.waiting {
			err := b.spool.link(t.task, filepath.Join(dir, t.entry.name()))
			if err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
		}
		return nil
	})
	for _, t := range end.waiting {
		t.in = err == nil
	}
	end.waiting = nil
	return err
}

// lockSubmit keeps other submitters out, those of before as well, so that of two
// with the same ID one comes first, and keys grow in the order of the submits. It
// is held for milliseconds: hundreds of them take their turns.
func (s *Spool) lockSubmit(ctx context.Context) (unlock func(), err error) {
	lock, err := os.OpenFile(s.path(submitLock), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	const least, most, long = time.Millisecond, 16 * time.Millisecond, 10 * time.Second
	begun, told := time.Now(), false
	for pause := least; ; pause = min(2*pause, most) {
		ok, err := tryLock(lock)
		if ok {
			return func() { lock.Close() }, nil
		}
		if err == nil {
			select {
			case <-time.After(pause):
				if !told && time.Since(begun) > long {
					told = true
					s.log.LogAttrs(ctx, slog.LevelWarn, "others submit all the time, or one of them was stopped; waiting; find it with fuser", slog.String("lock", lock.Name()))
				}
				continue
			case <-ctx.Done():
				err = fmt.Errorf("waited for %s, which others that submit hold: %w", lock.Name(), ctx.Err())
			}
		}
		lock.Close()
		return nil, err
	}
}

// errSettled is what a delivery answers after the call that ended it.
var errSettled = errors.New("it was settled before")
