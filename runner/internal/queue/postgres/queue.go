package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	Work   string // the directory of the attempts, which the caller removes
	Log    *slog.Logger
	// Lease is how long a claim lives without a sign of life, and Look how often to
	// look for work that nobody told of; both have defaults. Tests have shorter ones.
	Lease, Look time.Duration
}

const (
	defaultLease = 30 * time.Second
	// With jitter it is 10 to 30 s.
	defaultLook = 20 * time.Second
	// For a look, the renewal and two that store or end something; more of them wait
	// for each other. A server of a fleet has few connections to give.
	connections = 4
	// An idle runner keeps the one by which it listens, a suspended one none.
	idle = time.Minute
)

// Queue is a connection to the queue. Its methods may be called concurrently.
type Queue struct {
	Options
	pool *pgxpool.Pool
	name string // of the database, without secrets

	stop    context.CancelFunc // ends the renewal
	renewal sync.WaitGroup

	failures, lost, late atomic.Int64

	mu     sync.Mutex
	held   map[*delivery]struct{}
	strays []string  // claims that may be ours, as the answer got lost
	since  time.Time // the server has answered everything since then; zero while it does not
	ready  bool      // the schema was looked at
}

var (
	_ queue.Queue = (*Queue)(nil)
	_ queue.Store = (*Queue)(nil)
)

// Open connects to the queue that a URL names, or what it leaves out the variables
// of libpq, as PGHOST, PGPASSFILE, PGSERVICE and PGSSLMODE. A server that does not
// answer is no error: it may be back before there is anything to say.
func Open(ctx context.Context, url string, o Options) (*Queue, error) {
	config, name, err := parse(url)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", name, err)
	}
	o.Lease, o.Look, o.Log = cmp.Or(o.Lease, defaultLease), cmp.Or(o.Look, defaultLook), cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	q := &Queue{Options: o, pool: pool, name: name, held: make(map[*delivery]struct{}), since: time.Now()}
	if err := q.check(ctx, pool); err != nil && (o.Runner == "" || refused(err)) {
		pool.Close()
		return nil, err
	}
	ctx, q.stop = context.WithCancel(context.Background())
	q.renewal.Go(func() { q.renew(ctx) })
	return q, nil
}

// parse reads the URL, and returns a name for people that has no secret.
func parse(url string) (*pgxpool.Config, string, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, "", fmt.Errorf("queue: %w; name it as postgres://USER@HOST:PORT/DATABASE", err) // pgx leaves the password out
	}
	c := config.ConnConfig
	// Poolers know no prepared statements of a connection.
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, defaultLease/3)
	if c.ValidateConnect == nil { // what was failed over may be there still, and take nothing
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	config.MaxConns, config.MaxConnIdleTime, config.HealthCheckPeriod = connections, idle, idle/2
	return config, fmt.Sprintf("%s on %s", c.Database, c.Host), nil
}

// String names the queue without secrets.
func (q *Queue) String() string { return q.name }

// refused says whether the server has answered that it never will do that, in
// contrast to not being there or in order now.
func refused(err error) bool {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return errors.As(err, new(*lacks))
	}
	switch answer.Code[:2] {
	case "08", "25", "53", "57", "58", "40": // connection, standby, resources, shutdown and start, system, conflict
		return false
	}
	return true
}

// database is a connection, or a pool of them.
type database interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// ask says a statement and reads the answer. Each may take a third of the lease, so
// that there is time to say it again; the end of ctx does not end it, or nobody
// would know what became of it.
func ask[T any](ctx context.Context, q *Queue, db database, row pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), q.Lease/3)
	defer cancel()
	rows, err := db.Query(limited, sql, args...)
	var answer []T
	if err == nil {
		answer, err = pgx.CollectRows(rows, row)
	}
	q.note(err)
	return answer, err
}

// note remembers since when the server answers, and says when that changes.
func (q *Queue) note(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case err != nil:
		q.failures.Add(1)
		if !q.since.IsZero() {
			q.Log.Warn("the queue does not answer; tasks go on, and what is to be said is said later", "queue", q.name, "error", err)
		}
		q.since = time.Time{}
	case q.since.IsZero():
		q.since = time.Now()
		q.Log.Info("the queue answers again", "queue", q.name)
	}
}

// Failures counts what the server did not answer, or refused; Lost the claims that
// this runner has lost; Late the ends of tasks that are still to be told.
func (q *Queue) Failures() int64 { return q.failures.Load() }
func (q *Queue) Lost() int64     { return q.lost.Load() }
func (q *Queue) Late() int64     { return q.late.Load() }

// Close gives back what is held still, if the server takes it, and ends all
// connections. Fetch must not be called any more.
func (q *Queue) Close() error {
	q.stop()
	q.renewal.Wait()
	q.mu.Lock()
	held := make([]*delivery, 0, len(q.held))
	for d := range q.held {
		held = append(held, d)
	}
	q.mu.Unlock()
	var problems []error
	for _, d := range held {
		err := d.Release()
		if errors.Is(err, queue.ErrLost) {
			continue
		}
		if problems = append(problems, err); err != nil {
			break // the leases end by themselves
		}
	}
	q.pool.Close()
	return errors.Join(problems...)
}
