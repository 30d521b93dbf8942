package postgres

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// Crash does to the queue what the death of its process does: nothing is given back
// and nothing renewed.
func (q *Queue) Crash() {
	q.end()
	q.renewal.Wait()
	q.pool.Close()
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.held)
}

// Say says a statement to the server, as people do.
func (q *Queue) Say(sql string, args ...any) error {
	_, err := q.pool.Exec(context.Background(), sql, args...)
	return err
}

// Count asks the server for a number.
func (q *Queue) Count(t testing.TB, sql string) (n int) {
	t.Helper()
	if err := q.pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Dump shows all that is stored, but for signs of life.
func (q *Queue) Dump(t *testing.T) string {
	t.Helper()
	found, err := q.pool.Query(context.Background(), `
		select (to_jsonb(t) - 'beat')::text from studioml.task t
		union all select r::text from studioml.result r
		union all select f::text from studioml.file f order by 1`)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(rows, "\n")
}

// Now is the server's time.
func (q *Queue) Now(t *testing.T) time.Time {
	t.Helper()
	now, err := ask(q, q.pool, pgx.RowTo[time.Time], "time")
	if err != nil {
		t.Fatal(err)
	}
	return now[0]
}

// TakeBack does so by a statement that was said at this time.
func (q *Queue) TakeBack(t *testing.T, at time.Time) int {
	t.Helper()
	rows, err := ask(q, q.pool, func(row pgx.CollectableRow) (bool, error) { return true, nil }, "clear", at, q.Lease/3, nil)
	if err != nil {
		t.Fatal(err)
	}
	return len(rows)
}

// Hold locks a task until it is let go.
func (q *Queue) Hold(t *testing.T, id string) (let func()) {
	t.Helper()
	tx, err := q.pool.Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), "select from studioml.task where id = $1 for update", id)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// EndSlowly says the end of a delivery in a transaction that done ends.
func EndSlowly(t *testing.T, d queue.Delivery, state string) (done func()) {
	t.Helper()
	of := d.(*delivery)
	tx, err := of.queue.pool.Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), statements["end"], of.claim, state, (*time.Duration)(nil), 0, "", []byte(nil), false)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Commit(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// Follow stores what has come to the outputs of a delivery.
func Follow(d queue.Delivery) { d.(*delivery).follow() }
