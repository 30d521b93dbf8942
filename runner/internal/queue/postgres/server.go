package postgres

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/studioml/studio-go-runner/runner/internal/queue"
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
// The time to connect is shared by the hosts that it names, so that each has its turn.
func parse(url string, limit time.Duration) (*pgxpool.Config, string, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, "", fmt.Errorf("queue: %w; name it as postgres://USER@HOST:PORT/DATABASE", plain{err}) // pgx leaves the password out
	}
	c := config.ConnConfig
	c.DefaultQueryExecMode = pgx.QueryExecModeExec // poolers know no prepared statements
	hosts := map[string]bool{fmt.Sprint(c.Host, c.Port): true}
	for _, f := range c.Fallbacks { // or another way to the same
		hosts[fmt.Sprint(f.Host, f.Port)] = true
	}
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, limit/time.Duration(len(hosts)))
	if c.ValidateConnect == nil { // a server that another has taken over from may be there still, read-only
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	config.MaxConns, config.MaxConnIdleTime, config.HealthCheckPeriod = connections, idle, idle/2
	return config, fmt.Sprintf("%s on %s", c.Database, c.Host), nil
}

// plain is an error on one line. pgx has a line for each address and way that it
// tried, often the same; that a server has no TLS, where another way is as good,
// explains nothing.
type plain struct{ error }

func (p plain) Error() string {
	lines := strings.Split(p.error.Error(), "\n")
	if others := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.HasSuffix(line, "server refused TLS connection") }); len(others) > 1 {
		lines = others
	}
	return strings.Join(strings.Fields(strings.Join(slices.Compact(lines), " ")), " ")
}
func (p plain) Unwrap() error { return p.error }

// advised says what to do about an error, where that is a matter of how the server
// is named.
func advised(err error) error {
	switch {
	case untrusted(err):
		return fmt.Errorf("%w; sslrootcert, or PGSSLROOTCERT, must name the certificate of who has signed the server's, and the URL the server as that does", err)
	case code(err) == noDatabase:
		return fmt.Errorf("%w; make it first, as createdb does, and then its tables: runner queue init", err)
	case code(err) == wrongPassword:
		return fmt.Errorf("%w; the password must be in the file that PGPASSFILE names, or in PGPASSWORD, or with the URL in STUDIOML_QUEUE", err)
	}
	return err
}

// away is an error of a server, which may be another one's turn soon, or well again.
type away struct{ plain }

func (away) Is(target error) bool { return target == queue.ErrAway }

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
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			args[i] = text(arg)
		case []string:
			args[i] = slices.Clone(arg)
			for j, s := range arg {
				args[i].([]string)[j] = text(s)
			}
		}
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

// text is what a server takes as text. It never takes zero bytes and what is no UTF-8,
// which names of files and the words of tasks may have.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
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
		err = away{plain{advised(err)}}
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

// The words that a connection hears, which are remembered with it.
const wake, stop = "wake", "stop"

// told is called for what a connection hears.
func (q *Queue) told(c *pgconn.PgConn, n *pgconn.Notification) {
	if n.Payload == "" {
		c.CustomData()[wake] = true
	} else if q.holds()[n.Payload] != nil {
		c.CustomData()[stop] = true
	}
}

// listen calls do with a connection, and again whenever its pause is over or a word
// is told, until it wants no pause or fails.
func (q *Queue) listen(ctx context.Context, word string, do func(*pgxpool.Conn) (pause time.Duration, err error)) error {
	limited, cancel := context.WithTimeout(ctx, q.Limit)
	defer cancel()
	conn, err := q.pool.Acquire(limited)
	if err == nil {
		defer conn.Release()
	}
	for err == nil {
		heard := conn.Conn().PgConn().CustomData()
		delete(heard, word)
		pause, fault := do(conn)
		if fault != nil || pause <= 0 {
			return fault
		}
		waiting, cancel := context.WithTimeout(ctx, pause)
		select {
		case <-time.After(q.Look / 40): // a thousand idle runners shall not look for each of many tasks
		case <-waiting.Done():
		}
		for heard[word] == nil && err == nil {
			err = conn.Conn().PgConn().WaitForNotification(waiting)
		}
		if waiting.Err() != nil {
			err = ctx.Err()
		}
		cancel()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return q.note(err)
}
