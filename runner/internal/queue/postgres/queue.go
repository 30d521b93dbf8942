package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
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
	// A person has more patience than a claim.
	ownersLimit = 30 * time.Second
	// For a look, the renewal, and two that store something; more of them wait for
	// each other, because a server has few to give.
	connections = 4
	// An idle runner keeps the connection by which it listens, a suspended one none.
	idle = time.Minute
	// lastWords is how long an exit may take to give back what is held still, and to
	// end connections.
	lastWords = lifecycle.CloseEnd / 2
)

// Queue is a connection to the queue. Its methods may be called concurrently.
type Queue struct {
	// Failures counts what the server has refused or not answered, Lost the claims
	// that this runner has lost. Late is how many ends of tasks are to be told still.
	Failures, Lost, Late atomic.Int64

	Options
	name    string // of the database, without secrets
	pool    *pgxpool.Pool
	life    context.Context // of all that is said
	end     context.CancelFunc
	renewal sync.WaitGroup
	claimed chan struct{} // told when there is a claim to renew

	following sync.Mutex // one at a time follows the outputs

	mu       sync.Mutex
	held     map[string]*delivery // by claim
	steady   time.Time            // the server has answered everything since then; zero while it does not
	tookBack time.Time            // when claims of others were looked at last
}

var (
	_ queue.Queue  = (*Queue)(nil)
	_ queue.Store  = (*Queue)(nil)
	_ queue.Offers = (*Queue)(nil)
)

// Open connects to the queue that a URL names, or where that is silent the variables
// of libpq, as PGHOST, PGPASSFILE, PGSERVICE and PGSSLMODE. To a runner a server
// that does not answer is no error: it may be back before there is anything to say.
func Open(url string, o Options) (*Queue, error) {
	limit := defaultLimit
	if o.Runner == "" {
		limit = ownersLimit
	}
	config, name, err := parse(url, limit)
	if err != nil {
		return nil, err
	}
	o.Lease, o.Limit, o.Look = cmp.Or(o.Lease, defaultLease), cmp.Or(o.Limit, limit), cmp.Or(o.Look, defaultLook)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	q := &Queue{Options: o, name: name, held: make(map[string]*delivery), claimed: make(chan struct{}, 1), steady: time.Now()}
	q.life, q.end = context.WithCancel(context.Background())
	config.ConnConfig.OnNotification, config.AfterConnect = q.told, q.connected
	if q.pool, err = pgxpool.NewWithConfig(context.Background(), config); err != nil {
		return nil, fmt.Errorf("queue %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(q.life, q.Limit)
	defer cancel()
	if err := q.note(q.pool.Ping(ctx)); err != nil && (o.Runner == "" || final(err)) {
		return nil, errors.Join(fmt.Errorf("queue %s: %w", name, err), q.Close())
	}
	q.renewal.Go(q.renew)
	return q, nil
}

// String names the queue without secrets.
func (q *Queue) String() string { return q.name }

// holds are the claims of this runner.
func (q *Queue) holds() map[string]*delivery {
	q.mu.Lock()
	defer q.mu.Unlock()
	return maps.Clone(q.held)
}

// hold has a claim renewed.
func (q *Queue) hold(d *delivery) {
	q.mu.Lock()
	q.held[d.claim] = d
	q.mu.Unlock()
	select {
	case q.claimed <- struct{}{}:
	default: // it was told before, and has not looked yet
	}
}

// renew keeps the claims alive while there are any: every third of the lease, more
// often while that fails, and at once where an owner wants a task stopped.
func (q *Queue) renew() {
	for {
		select {
		case <-q.claimed:
		case <-q.life.Done():
			return
		}
		for q.listen(q.life, stop, q.beat) != nil && q.life.Err() == nil {
			select {
			case <-time.After(q.Lease / 15):
			case <-q.life.Done():
			}
		}
	}
}

// beat renews the claims, ends those deliveries that are to be stopped, and has
// stored what those who watch the others want to see.
func (q *Queue) beat(conn *pgxpool.Conn) (time.Duration, error) {
	held := q.holds()
	if len(held) == 0 {
		return 0, nil
	}
	type renewed struct {
		Claim  string
		Cancel bool
	}
	answer, err := ask(q, conn, pgx.RowToStructByPos[renewed], "beat", slices.Collect(maps.Keys(held)))
	if err != nil {
		return 0, err
	}
	var going []*delivery
	for _, r := range answer {
		if r.Cancel {
			held[r.Claim].cancel(queue.ErrCancelled)
		}
		going = append(going, held[r.Claim])
		delete(held, r.Claim)
	}
	q.renewal.Go(func() { q.follow(going) })
	for _, d := range held {
		if !d.ending.Load() { // or it may have ended in good order meanwhile
			d.lose()
		}
	}
	return q.Lease / 3, nil
}

// follow has stored what has come to outputs, one by one, as others need connections, too.
func (q *Queue) follow(going []*delivery) {
	if !q.following.TryLock() {
		return
	}
	defer q.following.Unlock()
	for _, d := range going {
		d.follow()
	}
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
