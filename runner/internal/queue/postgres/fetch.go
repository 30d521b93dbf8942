package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
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
	limited, cancel := context.WithTimeout(ctx, q.Lease/3)
	conn, err := q.pool.Acquire(limited)
	cancel()
	if err != nil {
		if ctx.Err() == nil {
			q.note(err)
		}
		return nil, err
	}
	defer conn.Release()
	if err := q.check(ctx, conn); err != nil {
		return nil, err
	}
	for listening := false; ; {
		d, pause, err := q.look(ctx, conn, serves)
		if d != nil || err != nil || ctx.Err() != nil {
			return d, err
		}
		if !listening { // before the next look, so that nothing is missed in between
			if err := q.say(ctx, conn, sqlListen); err != nil {
				return nil, err
			}
			defer q.say(ctx, conn, sqlUnlisten)
			listening = true
			continue
		}
		if err := q.wait(ctx, conn, pause); err != nil {
			return nil, err
		}
	}
}

// say is for statements without an answer.
func (q *Queue) say(ctx context.Context, db database, sql string, args ...any) error {
	_, err := ask(ctx, q, db, pgx.RowTo[string], sql, args...)
	return err
}

// wait ends when a word has come, or after a time.
func (q *Queue) wait(ctx context.Context, conn *pgxpool.Conn, pause time.Duration) error {
	look := q.Look/2 + mathrand.N(q.Look)
	if pause > 0 {
		look = min(look, pause)
	}
	limited, cancel := context.WithTimeout(ctx, look)
	defer cancel()
	_, err := conn.Conn().WaitForNotification(limited)
	if err != nil && limited.Err() == nil {
		q.note(err)
		return err
	}
	return nil
}

// waiting is a class and rank that waits.
type waiting struct {
	GPUs      int
	GPUMemory int64
	Rank      int16
	Pause     time.Duration // 0 or less if its first task may start
}

// look goes once through what waits. If it takes nothing, pause is the time until
// something that is served may start, 0 for none.
func (q *Queue) look(ctx context.Context, conn *pgxpool.Conn, serves func(api.Resources) bool) (d *delivery, pause time.Duration, err error) {
	if err := errors.Join(q.giveBackStrays(ctx, conn), q.takeBack(ctx, conn)); err != nil {
		return nil, 0, err
	}
	heads, err := ask(ctx, q, conn, pgx.RowToStructByPos[waiting], sqlWaiting)
	for _, w := range heads {
		if !serves(api.Resources{GPUs: w.GPUs, GPUMemory: api.Bytes(w.GPUMemory)}) {
			continue
		}
		if w.Pause > 0 {
			if pause == 0 || w.Pause < pause {
				pause = w.Pause
			}
			continue
		}
		for again := true; again && err == nil && ctx.Err() == nil; {
			if d, again, err = q.claim(ctx, conn, w); d != nil {
				return d, 0, nil
			}
		}
	}
	return nil, pause, err
}

// row is what a claim finds.
type row struct {
	ID            string
	Document      []byte
	Spent, Deaths int
	Checkpoint    string
	Time          time.Time
}

// claim takes the first task of a class. again says that it was none to run.
func (q *Queue) claim(ctx context.Context, conn *pgxpool.Conn, w waiting) (d *delivery, again bool, err error) {
	claim := newUUID()
	rows, err := ask(ctx, q, conn, pgx.RowToStructByPos[row], sqlClaim, w.GPUs, w.GPUMemory, w.Rank, claim, q.Runner, q.Lease)
	if err != nil {
		q.mu.Lock()
		q.strays = append(q.strays, claim)
		q.mu.Unlock()
		return nil, false, err
	}
	if len(rows) == 0 {
		return nil, false, nil // another runner was faster
	}
	r := rows[0]
	d = &delivery{queue: q, claim: claim, row: r}
	d.ctx, d.cancel = context.WithCancelCause(context.Background())
	q.mu.Lock()
	q.held[d] = struct{}{}
	q.mu.Unlock()
	reason := ""
	if d.task, err = api.ParseTask(r.Document); err != nil {
		reason = err.Error()
	} else if !d.task.Expires.IsZero() && r.Time.After(d.task.Expires.Time) {
		reason = fmt.Sprintf("it had not started by %s, when it expired", d.task.Expires.Format(time.RFC3339))
	} else if r.Deaths >= deathLimit {
		reason = fmt.Sprintf("%d runners died while they ran it, and no more try it", r.Deaths)
	}
	if reason == "" {
		return d, false, nil
	}
	if _, err := d.end(end{state: api.TaskDead, reason: reason}); err != nil {
		return nil, false, err
	}
	q.Log.Warn("buried a task", "task", r.ID, "reason", reason)
	return nil, true, nil
}

// newUUID returns a random UUID.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// giveBackStrays gives back what a claim may have taken whose answer got lost.
// There are no more than that many fetches at a time.
func (q *Queue) giveBackStrays(ctx context.Context, db database) error {
	q.mu.Lock()
	strays := q.strays
	q.strays = nil
	q.mu.Unlock()
	for i, claim := range strays {
		if _, err := ask(ctx, q, db, pgx.RowTo[string], sqlEnd, end{state: api.TaskWaiting}.args(claim)...); err != nil {
			q.mu.Lock()
			q.strays = append(q.strays, strays[i:]...)
			q.mu.Unlock()
			return err
		}
	}
	return nil
}

// takeBack takes back what other runners did not renew. Who has not reached the
// server for a lease does not know whether they could.
func (q *Queue) takeBack(ctx context.Context, db database) error {
	q.mu.Lock()
	steady := !q.since.IsZero() && time.Since(q.since) > q.Lease
	q.mu.Unlock()
	if !steady {
		return nil
	}
	type gone struct{ ID, Runner string }
	tasks, err := ask(ctx, q, db, pgx.RowToStructByPos[gone], sqlTakeBack)
	for _, t := range tasks {
		q.Log.Info("task taken back, its runner gives no sign of life", "task", t.ID, "of", t.Runner)
	}
	return err
}
