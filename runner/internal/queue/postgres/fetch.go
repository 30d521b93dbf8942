package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// Fetch implements queue.Queue. While it waits it holds one connection.
func (q *Queue) Fetch(ctx context.Context, serves func(api.Resources) bool) (queue.Delivery, error) {
	var got *delivery
	err := q.listen(ctx, wake, func(conn *pgxpool.Conn) (pause time.Duration, err error) {
		got, pause, err = q.look(ctx, conn, serves)
		return pause, err
	})
	switch {
	case got != nil:
		return got, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("fetch task: %w", err)
}

// tooLong is longer than any pause.
const tooLong = 2 * queue.LongestPause

// waiting is the begin of a class and rank.
type waiting struct {
	GPUs      int
	GPUMemory int64
	Rank      int16
	Pause     time.Duration // of its first task; not above 0 if that may start
}

// look goes once through what waits. If it takes nothing, it says when to look again.
func (q *Queue) look(ctx context.Context, conn *pgxpool.Conn, serves func(api.Resources) bool) (d *delivery, pause time.Duration, err error) {
	if err := q.clear(conn); err != nil {
		return nil, 0, err
	}
	pause = q.Look/2 + rand.N(q.Look)
	heads, err := ask(q, conn, pgx.RowToStructByPos[waiting], "waiting", api.TaskFormat, tooLong)
	for _, w := range heads {
		if !serves(api.Resources{GPUs: w.GPUs, GPUMemory: api.Bytes(w.GPUMemory)}) {
			continue
		}
		if w.Pause > 0 {
			pause = min(pause, w.Pause)
		} else if d, err = q.claim(ctx, conn, w); d != nil || err != nil {
			return d, 0, err
		} else { // others were faster, or a statement on that task is just ending
			pause = min(pause, q.Look/40)
		}
	}
	return nil, pause, err
}

// claim takes the first task of a class and rank that may run still, unless others
// were faster.
func (q *Queue) claim(ctx context.Context, conn *pgxpool.Conn, w waiting) (d *delivery, err error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var document []byte
	var now time.Time
	taken, err := ask(q, conn, func(row pgx.CollectableRow) (*delivery, error) {
		d := &delivery{queue: q, files: make(map[string]*file)}
		return d, row.Scan(&d.claim, &document, &d.id, &d.spent, &d.before, &now)
	}, "claim", w.GPUs, w.GPUMemory, w.Rank, q.Runner, q.Lease, api.TaskFormat, tooLong)
	if len(taken) == 0 {
		return nil, err
	}
	d = taken[0]
	d.ctx, d.cancel = context.WithCancelCause(context.Background())
	q.hold(d)
	d.task, err = api.ParseTask(document)
	if err == nil && !d.task.Expires.IsZero() && now.After(d.task.Expires.Time) {
		err = fmt.Errorf("it expired at %s", d.task.Expires.Format(time.RFC3339))
	}
	if err == nil {
		return d, nil
	}
	q.Log.Warn("task is buried", "task", d.id, "reason", err)
	if _, err := d.tell(end{state: api.TaskDead, reason: err.Error()}, nil); err != nil {
		d.forget() // nobody tells it again: who takes it when the lease is over does
		return nil, err
	}
	return q.claim(ctx, conn, w)
}

// clear takes back what other runners did not renew, and buries what has expired, if
// that is due. Who has not reached the server for a lease itself does not know
// whether others could.
func (q *Queue) clear(conn *pgxpool.Conn) error {
	q.mu.Lock()
	due := !q.steady.IsZero() && time.Since(q.steady) > q.Lease && time.Since(q.tookBack) > q.Lease/3
	if due {
		q.tookBack = time.Now()
	}
	q.mu.Unlock()
	if !due {
		return nil
	}
	return q.takeBack(conn, nil)
}

// takeBack does what clear says, to all tasks or to one.
func (q *Queue) takeBack(db database, id *string) error {
	now, err := ask(q, db, pgx.RowTo[time.Time], "time")
	if err != nil {
		return err
	}
	type cleared struct{ ID, State, Why string }
	tasks, err := ask(q, db, pgx.RowToStructByPos[cleared], "clear", now[0], q.Lease/3, id)
	for _, t := range tasks {
		q.Log.Warn("task taken from its place", "task", t.ID, "state", t.State, "reason", t.Why)
	}
	return err
}
