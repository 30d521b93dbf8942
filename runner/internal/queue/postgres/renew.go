package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// renew gives a sign of life for all claims every third of the lease, and more often
// while the server does not take it.
func (q *Queue) renew(ctx context.Context) {
	pause := q.Lease / 3
	for {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		if pause = q.Lease / 3; q.beat(ctx) != nil {
			pause = q.Lease / 15
		}
	}
}

// beat renews the claims, and tells those deliveries that have to end.
func (q *Queue) beat(ctx context.Context) error {
	asked := make(map[string]*delivery)
	var claims []string
	q.mu.Lock()
	for d := range q.held {
		asked[d.claim] = d
		claims = append(claims, d.claim)
	}
	q.mu.Unlock()
	if len(claims) == 0 {
		return nil
	}
	type renewed struct {
		Claim  string
		Cancel bool
	}
	answer, err := ask(ctx, q, q.pool, pgx.RowToStructByPos[renewed], sqlBeat, claims)
	if err != nil {
		return err
	}
	for _, r := range answer {
		if r.Cancel {
			asked[r.Claim].cancel(queue.ErrCancelled)
		}
		delete(asked, r.Claim)
	}
	for _, d := range asked {
		q.mu.Lock()
		_, held := q.held[d] // and not ended while this was under way
		q.mu.Unlock()
		if held {
			q.Log.Warn("the claim on a task is lost", "task", d.row.ID)
			d.lost()
		}
	}
	return nil
}
