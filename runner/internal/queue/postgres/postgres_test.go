package postgres_test

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/queue/postgres"
)

// lease keeps the tests short. It is long beside what a statement takes on a busy
// machine.
const lease = 3 * time.Second

// server is what all tests share that do not break it.
var server *pgserver.Server

func TestMain(m *testing.M) {
	flag.Parse()
	err := flag.Set("test.parallel", "16") // they wait for leases to run out, mostly
	if err == nil {
		server, err = pgserver.Start(pgserver.Hasty)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

var databases atomic.Int64

// newQueue makes an empty queue on a server and returns its URL.
func newQueue(t *testing.T, on *pgserver.Server) string {
	t.Helper()
	url, err := on.Database(t.Context(), fmt.Sprintf("queue%d", databases.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := postgres.Init(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	return url
}

func open(t *testing.T, url, runner string) *postgres.Queue {
	t.Helper()
	return openWith(t, url, runner, lease, 20*time.Second)
}

// openWith is for those who meet servers that do not answer.
func openWith(t *testing.T, url, runner string, lease, limit time.Duration) *postgres.Queue {
	t.Helper()
	o := postgres.Options{Runner: runner, Work: t.TempDir(), Lease: lease, Limit: limit, Look: lease / 5, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	q, err := postgres.Open(url, o)
	for end := time.Now().Add(time.Minute); errors.Is(err, queue.ErrAway) && time.Now().Before(end); { // the limit is short
		q, err = postgres.Open(url, o)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

type fixture struct {
	url   string
	owner *postgres.Queue
}

// waits says whether a statement with a sign waits for another.
func (f *fixture) waits(t *testing.T, sign string) bool {
	t.Helper()
	return f.owner.Count(t, "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%"+sign+"%'") > 0
}

func (f *fixture) Submit(t *testing.T, task *api.Task) {
	t.Helper()
	if _, err := f.owner.Submit(t.Context(), []*api.Task{task}); err != nil {
		t.Fatal(err)
	}
}
