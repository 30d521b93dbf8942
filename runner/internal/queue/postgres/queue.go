package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// Options are how a queue is used.
type Options struct {
	Runner string // the name for claims; empty for those who only submit and look
	Work   string // where attempts make what is stored; the caller removes it
	Log    *slog.Logger
	// Lease is how long a claim lives without a sign of life. Limit is how long the
	// answer to a statement may take, so that there is time to say it again. Look is
	// how often a runner looks for work that nobody told it of: half of it at least,
	// one and a half times it at most. All have defaults; tests have others.
	Lease, Limit, Look time.Duration
}

const (
	defaultLease, defaultLimit, defaultLook = 30 * time.Second, 10 * time.Second, 20 * time.Second
	// For a look, the renewal, and two that store something; more of them wait for
	// each other, because a server has few to give.
	connections = 4
	// An idle runner keeps the connection by which it listens, a suspended one none.
	idle = time.Minute
	// lastWords is how long an exit may take to give back what is held still, and to
	// end connections. Both are part of lifecycle.EndAfter.
	lastWords = time.Second / 2
)

// Queue is a connection to the queue. Its methods may be called concurrently.
type Queue struct {
	// Failures counts what the server has refused or not answered, Lost the claims
	// that this runner has lost. Late is how many ends of tasks are to be told still.
	Failures, Lost, Late atomic.Int64

	Options
	name    string // of the database, without secrets
	pool    *pgxpool.Pool
	checked atomic.Bool     // the schema suits
	life    context.Context // of all that is said
	end     context.CancelFunc
	renewal sync.WaitGroup

	mu       sync.Mutex
	held     map[string]*delivery // by claim
	steady   time.Time            // the server has answered everything since then; zero while it does not
	tookBack time.Time            // when claims of others were looked at last
}

var (
	_ queue.Queue = (*Queue)(nil)
	_ queue.Store = (*Queue)(nil)
)

// Open connects to the queue that a URL names, or where that is silent the variables
// of libpq, as PGHOST, PGPASSFILE, PGSERVICE and PGSSLMODE. To a runner a server
// that does not answer is no error: it may be back before there is anything to say.
func Open(url string, o Options) (*Queue, error) {
	config, name, err := parse(url)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", name, err)
	}
	o.Lease, o.Limit, o.Look = cmp.Or(o.Lease, defaultLease), cmp.Or(o.Limit, defaultLimit), cmp.Or(o.Look, defaultLook)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	q := &Queue{Options: o, name: name, pool: pool, held: make(map[string]*delivery), steady: time.Now()}
	q.life, q.end = context.WithCancel(context.Background())
	if err := q.check(pool); err != nil && (o.Runner == "" || final(err)) {
		return nil, errors.Join(err, q.Close())
	}
	q.renewal.Go(func() { q.every(q.beat) })
	q.renewal.Go(func() { q.every(q.follow) })
	return q, nil
}

// parse reads a URL, and returns a name of the database for people, without secrets.
func parse(url string) (*pgxpool.Config, string, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, "", fmt.Errorf("queue: %w; name it as postgres://USER@HOST:PORT/DATABASE", plain{err}) // pgx leaves the password out
	}
	c := config.ConnConfig
	c.DefaultQueryExecMode = pgx.QueryExecModeExec // poolers know no prepared statements
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, defaultLimit)
	c.OnNotification = func(conn *pgconn.PgConn, _ *pgconn.Notification) { conn.CustomData()[told] = true }
	if c.ValidateConnect == nil { // a server that another has taken over from may be there still, read-only
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	config.MaxConns, config.MaxConnIdleTime, config.HealthCheckPeriod = connections, idle, idle/2
	return config, fmt.Sprintf("%s on %s", c.Database, c.Host), nil
}

// String names the queue without secrets.
func (q *Queue) String() string { return q.name }

// database is a connection, or a pool of them.
type database interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// ask says a statement and reads the answer. Nothing but its limit and Close ends
// it, or nobody would know what became of it.
func ask[T any](q *Queue, db database, row pgx.RowToFunc[T], name string, args ...any) ([]T, error) {
	ctx, cancel := context.WithTimeout(q.life, q.Limit)
	defer cancel()
	rows, err := db.Query(ctx, statement(name), args...)
	var answer []T
	if err == nil {
		answer, err = pgx.CollectRows(rows, row)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return answer, q.note(err)
}

// plain is an error on one line. pgx has a line for each address that it tried.
type plain struct{ error }

func (p plain) Error() string { return strings.Join(strings.Fields(p.error.Error()), " ") }
func (p plain) Unwrap() error { return p.error }

// note remembers since when the server answers, and says when that changes.
func (q *Queue) note(err error) error {
	if err != nil {
		err = plain{err}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	was := q.steady
	switch {
	case err != nil:
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

// every does something every third of the lease, and more often while it fails.
func (q *Queue) every(do func() error) {
	for pause := q.Lease / 3; ; {
		select {
		case <-time.After(pause):
		case <-q.life.Done():
			return
		}
		if pause = q.Lease / 3; do() != nil {
			pause = q.Lease / 15
		}
	}
}

// holds are the claims of this runner.
func (q *Queue) holds() map[string]*delivery {
	q.mu.Lock()
	defer q.mu.Unlock()
	return maps.Clone(q.held)
}

// beat renews the claims, and ends those deliveries that are to be stopped.
func (q *Queue) beat() error {
	held := q.holds()
	if len(held) == 0 {
		return nil
	}
	type renewed struct {
		Claim  string
		Cancel bool
	}
	answer, err := ask(q, q.pool, pgx.RowToStructByPos[renewed], "beat", slices.Collect(maps.Keys(held)))
	if err != nil {
		return err
	}
	for _, r := range answer {
		if r.Cancel {
			held[r.Claim].cancel(queue.ErrCancelled)
		}
		delete(held, r.Claim)
	}
	for _, d := range held {
		if !d.ending.Load() { // or it may have ended in good order meanwhile
			d.lose()
		}
	}
	return nil
}

// Close gives back what is held still, if the server takes it, and ends all
// connections. Fetch must not be called any more.
func (q *Queue) Close() (err error) {
	defer time.AfterFunc(lastWords, q.end).Stop()
	for _, d := range q.holds() {
		if fault := d.Release(); !errors.Is(fault, queue.ErrLost) {
			err = errors.Join(err, fault)
		}
	}
	q.end()
	q.renewal.Wait()
	closed := make(chan struct{})
	go func() {
		q.pool.Close() // in a network that is cut, pgx tries for 15 s to cancel what it had asked
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(lastWords):
	}
	return err
}
