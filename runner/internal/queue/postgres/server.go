package postgres

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed statements.sql
var statementsFile string

// statements are those of statements.sql, by name.
var statements = func() map[string]string {
	all := make(map[string]string)
	for block := range strings.SplitSeq(statementsFile, "\n-- name: ") {
		name, sql, _ := strings.Cut(block, "\n")
		all[name] = sql
	}
	return all
}()

// parse reads a URL, and returns a name of the database for people, without secrets.
func parse(url string) (*pgxpool.Config, string, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, "", fmt.Errorf("queue: %w; name it as postgres://USER@HOST:PORT/DATABASE", plain{err}) // pgx leaves the password out
	}
	c := config.ConnConfig
	c.DefaultQueryExecMode = pgx.QueryExecModeExec              // poolers know no prepared statements
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, defaultLimit/3) // so that of several hosts the next one has its turn
	if c.ValidateConnect == nil {                               // a server that another has taken over from may be there still, read-only
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	config.MaxConns, config.MaxConnIdleTime, config.HealthCheckPeriod = connections, idle, idle/2
	return config, fmt.Sprintf("%s on %s", c.Database, c.Host), nil
}

// plain is an error on one line. pgx has a line for each address that it tried.
type plain struct{ error }

func (p plain) Error() string { return strings.Join(strings.Fields(p.error.Error()), " ") }
func (p plain) Unwrap() error { return p.error }

// database is a connection, or a pool of them.
type database interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// ask says a statement and reads the answer. Nothing but its limit and Close ends
// it, or nobody would know what became of it.
func ask[T any](q *Queue, db database, row pgx.RowToFunc[T], name string, args ...any) ([]T, error) {
	sql, ok := statements[name]
	if !ok {
		panic("no statement has the name " + name)
	}
	ctx, cancel := context.WithTimeout(q.life, q.Limit)
	defer cancel()
	rows, err := db.Query(ctx, sql, args...)
	var answer []T
	if err == nil {
		answer, err = pgx.CollectRows(rows, row)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return answer, q.note(err)
}

// one says a statement whose answer is one value, or if there is none the error none.
func one[T any](q *Queue, none error, name string, args ...any) (value T, err error) {
	answer, err := ask(q, q.pool, pgx.RowTo[T], name, args...)
	if err == nil && len(answer) == 0 {
		err = none
	}
	if err == nil {
		value = answer[0]
	}
	return value, err
}

// note remembers since when the server answers, and says when that changes.
func (q *Queue) note(err error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	was := q.steady
	switch {
	case err != nil:
		err = plain{err}
		q.Failures.Add(1)
		q.steady = time.Time{}
		if !was.IsZero() && q.life.Err() == nil {
			q.Log.Warn("the queue does not answer, or refuses; tasks go on, and what is to be said is said later", "queue", q.name, "error", err)
		}
	case was.IsZero():
		q.steady = time.Now()
		q.Log.Info("the queue answers again", "queue", q.name)
	}
	return err
}

// What is remembered with a connection: that it listens, and what it was told.
const listens, wake, stop = "listens", "wake", "stop"

// told is called for what a connection hears.
func (q *Queue) told(c *pgconn.PgConn, n *pgconn.Notification) {
	switch {
	case n.Payload == "":
		c.CustomData()[wake] = true
	case q.holds()[n.Payload] != nil:
		c.CustomData()[stop] = true
	}
}

// listen calls do with a connection, and again whenever its pause is over or a word
// is told, until it wants no pause or fails.
func (q *Queue) listen(ctx context.Context, word string, do func(*pgxpool.Conn) (pause time.Duration, err error)) error {
	limited, cancel := context.WithTimeout(ctx, q.Limit)
	defer cancel()
	conn, err := q.pool.Acquire(limited)
	if err != nil && ctx.Err() == nil {
		err = q.note(err)
	}
	if err != nil {
		return err
	}
	defer conn.Release()
	heard := conn.Conn().PgConn().CustomData()
	if heard[listens] == nil {
		if err = q.check(conn); err == nil {
			_, err = ask(q, conn, pgx.RowTo[string], "listen")
		}
	}
	for err == nil && ctx.Err() == nil {
		heard[listens] = true
		delete(heard, word)
		var pause time.Duration
		if pause, err = do(conn); err != nil {
			delete(heard, listens) // the tables may be others now
		} else if pause <= 0 {
			return nil
		} else {
			err = q.hear(ctx, conn.Conn().PgConn(), word, pause)
		}
	}
	return cmp.Or(err, ctx.Err())
}

// hear waits until a connection is told a word, or for so long.
func (q *Queue) hear(ctx context.Context, conn *pgconn.PgConn, word string, long time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	for conn.CustomData()[word] == nil && err == nil {
		err = conn.WaitForNotification(ctx)
	}
	if err == nil || ctx.Err() != nil {
		return nil
	}
	return q.note(err)
}
