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

// deathLimit is how many runners may die while they run a task. A runner that is
// killed is not the task's fault, but one that always is might be.
const deathLimit = 10

// Fetch implements queue.Queue. While it waits it holds one connection.
func (q *Queue) Fetch(ctx context.Context, serves func(api.Resources) bool) (queue.Delivery, error) {
	d, err := q.fetch(ctx, serves)
	switch {
	case d != nil:
		return d, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("fetch task: %w", err)
}

func (q *Queue) fetch(ctx context.Context, serves func(api.Resources) bool) (*delivery, error) {
	limited, cancel := context.WithTimeout(ctx, q.Limit)
	conn, err := q.pool.Acquire(limited)
	cancel()
	if err != nil {
		if ctx.Err() == nil {
			err = q.note(err)
		}
		return nil, err
	}
	defer conn.Release()
	if err := q.check(conn); err != nil {
		return nil, err
	}
	for {
		d, pause, err := q.look(ctx, conn, serves)
		if d == nil && err == nil && ctx.Err() == nil {
			err = q.wait(ctx, conn, min(pause, q.Look/2+rand.N(q.Look)))
		}
		if d != nil || err != nil || ctx.Err() != nil {
			return d, err
		}
	}
}

// What is remembered with a connection: that it listens, for as long as it is there,
// and that it was told something since that was last asked.
const listens, told = "listens", "told"

// wait waits for a word on the connection, or until it is time to look anyway. The
// first time it does not, as there may be what came before it listened.
func (q *Queue) wait(ctx context.Context, conn *pgxpool.Conn, pause time.Duration) error {
	c := conn.Conn().PgConn()
	state := c.CustomData()
	if state[listens] == nil {
		_, err := ask(q, conn, pgx.RowTo[string], "listen")
		state[listens] = true
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pause)
	defer cancel()
	if state[told] == nil {
		if err := c.WaitForNotification(ctx); err != nil && ctx.Err() == nil {
			return q.note(err)
		}
	}
	delete(state, told)
	return nil
}

// look goes once through what waits. If it takes nothing, pause says how long it is
// until something may start that has to wait.
func (q *Queue) look(ctx context.Context, conn *pgxpool.Conn, serves func(api.Resources) bool) (d *delivery, pause time.Duration, err error) {
	if err := q.takeBack(conn); err != nil {
		return nil, 0, err
	}
	type waiting struct {
		GPUs      int
		GPUMemory int64
		Rank      int16
		Pause     time.Duration // of its first task; not above 0 if that may start
	}
	pause = q.Look * 2
	heads, err := ask(q, conn, pgx.RowToStructByPos[waiting], "waiting")
	for _, w := range heads {
		switch {
		case !serves(api.Resources{GPUs: w.GPUs, GPUMemory: api.Bytes(w.GPUMemory)}):
			continue
		case w.Pause > 0:
			pause = min(pause, w.Pause)
			continue
		}
		for buried := true; buried && err == nil && ctx.Err() == nil; {
			if d, buried, err = q.claim(conn, w.GPUs, w.GPUMemory, w.Rank); d != nil {
				return d, 0, nil
			}
		}
	}
	return nil, pause, err
}

// claim takes the first task of a class and rank, unless others were faster, or it
// must not run any more.
func (q *Queue) claim(conn *pgxpool.Conn, class ...any) (d *delivery, buried bool, err error) {
	var document []byte
	var deaths int
	var now time.Time
	taken, err := ask(q, conn, func(row pgx.CollectableRow) (*delivery, error) {
		d := &delivery{queue: q, tails: make(map[string]*tail)}
		return d, row.Scan(&d.claim, &d.id, &document, &d.spent, &deaths, &d.before, &now)
	}, "claim", append(class, q.Runner, q.Lease)...)
	if len(taken) == 0 {
		return nil, false, err
	}
	d = taken[0]
	d.ctx, d.cancel = context.WithCancelCause(context.Background())
	q.mu.Lock()
	q.held[d.claim] = d
	q.mu.Unlock()
	why := ""
	switch d.task, err = api.ParseTask(document); {
	case err != nil:
		why = err.Error()
	case !d.task.Expires.IsZero() && now.After(d.task.Expires.Time):
		why = "it expired at " + d.task.Expires.Format(time.RFC3339)
	case deaths >= deathLimit:
		why = fmt.Sprintf("%d runners died while they ran it, and no more try it", deaths)
	default:
		return d, false, nil
	}
	q.Log.Warn("task is buried", "task", d.id, "reason", why)
	_, err = d.tell(end{state: api.TaskDead, reason: why})
	return nil, err == nil, err
}

// takeBack takes back what other runners did not renew, if that is due. Who has not
// reached the server for a lease itself does not know whether they could.
func (q *Queue) takeBack(conn *pgxpool.Conn) error {
	q.mu.Lock()
	due := !q.steady.IsZero() && time.Since(q.steady) > q.Lease && time.Since(q.tookBack) > q.Lease/3
	if due {
		q.tookBack = time.Now()
	}
	q.mu.Unlock()
	if !due {
		return nil
	}
	now, err := ask(q, conn, pgx.RowTo[time.Time], "time")
	if err != nil {
		return err
	}
	type gone struct{ ID, Runner string }
	tasks, err := ask(q, conn, pgx.RowToStructByPos[gone], "takeBack", now[0], q.Lease/3)
	for _, t := range tasks {
		q.Log.Info("task taken back, because its runner gives no sign of life", "task", t.ID, "of", t.Runner)
	}
	return err
}
