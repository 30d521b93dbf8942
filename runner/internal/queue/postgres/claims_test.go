package postgres_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/queue/postgres"
)

// A runner that alone is cut off goes on, as it cannot know; the others have its
// task after a lease. When it is back it learns that within a third of a lease, and
// nothing that it says changes anything.
//
// catalogue: row 77
func TestCutOffAlone(t *testing.T) {
	t.Parallel()
	url := newQueue(t, server)
	p, err := server.Proxy()
	must(t, err)
	t.Cleanup(func() { p.Close() })
	f := &fixture{url: url, owner: open(t, url, "")}
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	alone, other := openWith(t, through(url, p), "alone", lease, lease), open(t, url, "other")
	mine := fetch(t, alone)
	insist(t.Context(), func() error { _, err := mine.Begin(nil); return err })
	p.Cut()
	theirs := fetch(t, other)
	if mine.Context().Err() != nil {
		t.Error("the runner stopped its task while it could not know")
	}
	p.Restore()
	select {
	case <-mine.Context().Done():
	case <-time.After(time.Minute): // a third of the lease, and what a busy machine takes
		t.Fatal("the runner did not learn that it lost its claim")
	}
	if err := context.Cause(mine.Context()); err != queue.ErrLost {
		t.Errorf("the task is stopped because %v", err)
	}
	unchanged(t, f.owner, func() {
		refused := func(what string, do func() error) {
			t.Helper()
			await(t, what+" is refused", func() bool { // and not only late
				err := do()
				if err == nil {
					t.Fatalf("%s by a runner that has lost its claim", what)
				}
				return errors.Is(err, queue.ErrLost)
			})
		}
		refused("begin", func() error { _, err := mine.Begin(nil); return err })
		refused("finish", func() error { return finish(t, mine, 1, api.Succeeded) })
		refused("release", mine.Release)
	})
	if got := alone.Lost.Load(); got != 1 {
		t.Errorf("%d claims are counted as lost, want 1", got)
	}
	number, err := theirs.Begin(nil)
	must(t, err)
	must(t, finish(t, theirs, number, api.Succeeded))
	results, err := f.owner.Results(t.Context(), "a")
	if err != nil || len(results) != 2 || results[0].Outcome != api.MachineFailed || results[1].Outcome != api.Succeeded {
		t.Errorf("results are %v (%v), want a line on the lost attempt, and the success of the second", results, err)
	}
}

// An end that has to wait for the same one, whose answer got lost, is told that it is done.
func TestToldTwiceAtOnce(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	q := open(t, f.url, "runner")
	d := fetch(t, q)
	done, told := postgres.EndSlowly(t, d, "Waiting"), make(chan error, 1)
	go func() { told <- d.Release() }()
	await(t, "the second waits for the first", func() bool { return f.waits(t, "end ends a claim") })
	done()
	if err := <-told; err != nil || q.Lost.Load() > 0 {
		t.Errorf("released: %v, with %d claims lost", err, q.Lost.Load())
	}
}

// A statement that was sent before an outage of the network arrives after it, when
// no runner could renew its claims; it takes none of them back. To who looks, and to who
// cancels it, the task waits all the same.
func TestLateTakeBack(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	f.Submit(t, &api.Task{ID: "unwanted", Command: "true"})
	q := open(t, f.url, "runner")
	fetch(t, q)
	fetch(t, q)
	q.Crash()
	said := f.owner.Now(t)
	await(t, "the claim has run out", func() bool { return f.owner.Now(t).Sub(said) > lease })
	if n := f.owner.TakeBack(t, said); n != 0 {
		t.Errorf("a late statement took back %d tasks", n)
	}
	f.Submit(t, &api.Task{ID: "b", Command: "true"})
	list, err := f.owner.List(t.Context())
	must(t, err)
	if a := list[0]; a.ID != "a" || a.State != api.TaskWaiting || a.Position != 1 || list[1].Position != 2 || !strings.HasPrefix(a.Reason, "runner runner has given no sign of life since 2") || a.Runner != "" {
		t.Errorf("listed are %+v, want that a waits before all", list)
	}
	must(t, f.owner.Cancel(t.Context(), "unwanted"))
	if list, err = f.owner.List(t.Context(), "unwanted"); err != nil || list[0].State != api.TaskCancelled {
		t.Errorf("cancelled is %+v (%v)", list, err)
	}
	await(t, "it is taken back", func() bool { return f.owner.TakeBack(t, f.owner.Now(t)) == 1 })
}

// When all were cut off, the first who is back takes nothing from those who are not
// yet, though their claims have run out.
func TestFirstBack(t *testing.T) {
	t.Parallel()
	const lease = long // the other one is to be back before it is over once more
	url := newQueue(t, server)
	f := &fixture{url: url, owner: open(t, url, "")}
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	var ways []*pgserver.Proxy
	var runners []*postgres.Queue
	for _, r := range []struct {
		name  string
		limit time.Duration
	}{{"holder", lease}, {"first", lease / 6}} { // whose looks are to fail before they end
		p, err := server.Proxy()
		must(t, err)
		t.Cleanup(func() { p.Close() })
		ways, runners = append(ways, p), append(runners, openWith(t, through(url, p), r.name, lease, r.limit))
	}
	holder, first := runners[0], runners[1]
	d := fetch(t, holder)
	number := 0
	insist(t.Context(), func() (err error) { number, err = d.Begin(nil); return err })
	for _, p := range ways {
		p.Cut()
	}
	look := func(long time.Duration) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), long)
		defer cancel()
		for ctx.Err() == nil {
			if d, _ := first.Fetch(ctx, func(api.Resources) bool { return true }); d != nil {
				t.Error("the task was taken from a runner that was cut off as all were")
			}
		}
	}
	cut := time.Now()
	await(t, "the first notices", func() bool { look(lease / 2); return first.Failures.Load() > 0 && time.Since(cut) > 2*lease })
	ways[1].Restore()
	look(lease / 3)
	ways[0].Restore()
	insist(t.Context(), func() error { return finish(t, d, number, api.Succeeded) })
	if holder.Lost.Load() != 0 {
		t.Error("the claim is lost")
	}
}

// What was taken back is nobody's: its runner of before changes nothing, though no
// other has it yet.
func TestTakenBack(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	q := openWith(t, f.url, "runner", time.Hour, 20*time.Second) // it gives no sign of life
	d := fetch(t, q)
	number, err := d.Begin(nil)
	must(t, err)
	must(t, f.owner.Say(`update studioml.task set beat = beat - interval '2h', lease = '1s'`))
	await(t, "it is taken back", func() bool { return f.owner.TakeBack(t, f.owner.Now(t)) == 1 })
	unchanged(t, f.owner, func() {
		if _, err := d.Begin(nil); !errors.Is(err, queue.ErrLost) {
			t.Errorf("begin: %v", err)
		}
		for range 2 {
			if err := finish(t, d, number, api.Succeeded); !errors.Is(err, queue.ErrLost) {
				t.Errorf("finish: %v", err)
			}
		}
		results, _ := d.Local()
		made, err := results.Begin("a", number)
		must(t, err)
		if _, err := d.Finish(api.Result{Task: "a", Attempt: number, Outcome: api.Succeeded}, made); !errors.Is(err, queue.ErrLost) {
			t.Errorf("finish with nothing to store: %v", err)
		}
		must(t, made.Discard())
		if err := d.Release(); !errors.Is(err, queue.ErrLost) {
			t.Errorf("release: %v", err)
		}
	})
}

// unchanged requires that all tables are after do what they were before.
func unchanged(t *testing.T, q *postgres.Queue, do func()) {
	t.Helper()
	before := q.Dump(t)
	do()
	if after := q.Dump(t); after != before {
		t.Errorf("changed:\n%s\nto:\n%s", before, after)
	}
}

func fetch(t *testing.T, q *postgres.Queue) queue.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		d, err := q.Fetch(ctx, func(api.Resources) bool { return true })
		if err == nil {
			return d
		} else if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func finish(t *testing.T, d queue.Delivery, number int, outcome api.Outcome) error {
	t.Helper()
	results, _ := d.Local()
	made, err := results.Begin(d.Task().ID, number)
	must(t, err)
	must(t, os.WriteFile(made.Stdout(), []byte("output"), 0o644))
	if _, err = d.Finish(api.Result{Task: d.Task().ID, Attempt: number, Outcome: outcome}, made); err != nil {
		must(t, made.Discard()) // it may be told again
	}
	return err
}

// What cannot be told now is told later: the claim is kept meanwhile, and the end is
// counted as late once.
func TestLateEnd(t *testing.T) {
	t.Parallel()
	const lease = long // within which the runner is to hear that the server is back
	s, err := pgserver.Start(pgserver.Hasty)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	f := &fixture{url: newQueue(t, s)}
	f.owner = open(t, f.url, "")
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	q := openWith(t, f.url, "runner", lease, 20*time.Second)
	d := fetch(t, q)
	number, err := d.Begin(nil)
	must(t, err)
	must(t, s.Kill())
	for range 2 {
		if err := finish(t, d, number, api.Succeeded); err == nil || q.Late.Load() != 1 {
			t.Errorf("without a server finish gives %v, and %d ends are late", err, q.Late.Load())
		}
	}
	time.Sleep(lease * 5 / 4) // no runner may think that the claim has run out
	must(t, s.Start())
	other := openWith(t, f.url, "other", lease, 20*time.Second) // which looks for work at once
	ctx, cancel := context.WithTimeout(t.Context(), lease*3/2)
	defer cancel()
	if d, _ := other.Fetch(ctx, func(api.Resources) bool { return true }); d != nil {
		t.Error("the claim was lost by the outage")
	}
	must(t, finish(t, d, number, api.Succeeded))
	if q.Late.Load() != 0 || q.Lost.Load() != 0 {
		t.Errorf("%d ends are late, and %d claims are lost", q.Late.Load(), q.Lost.Load())
	}
}

// A runner that exits while it is cut off has said its last words in a second.
func TestCloseCutOff(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	p, err := server.Proxy()
	must(t, err)
	t.Cleanup(func() { p.Close() })
	q := open(t, through(f.url, p), "runner")
	fetch(t, q)
	ctx, enough := context.WithCancel(t.Context())
	fetched := make(chan error, 1)
	go func() {
		_, err := q.Fetch(ctx, func(api.Resources) bool { return true })
		fetched <- err
	}()
	await(t, "the runner listens", func() bool {
		return f.owner.Count(t, "select count(*) from pg_stat_activity where datname = current_database() and state = 'idle' and query like '%recursive head%'") > 0
	})
	p.Cut()
	enough()
	began := time.Now()
	if err := q.Close(); err == nil {
		t.Error("the task was given back through a network that is cut")
	}
	if took := time.Since(began); took > 15*time.Second { // its limit for statements is longer
		t.Errorf("it took %s", took)
	}
	if err := <-fetched; !errors.Is(err, context.Canceled) {
		t.Errorf("fetch: %v", err)
	}
}

// An end that is told twice, because the first answer got lost, is so once.
func TestEndToldTwice(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	q := open(t, f.url, "runner")
	for _, id := range []string{"a", "b"} {
		f.Submit(t, &api.Task{ID: id, Command: "true"})
	}
	d := fetch(t, q)
	number, err := d.Begin(nil)
	must(t, err)
	if again, err := d.Begin(nil); err != nil || again != number {
		t.Errorf("the second begin gave %d, %v; want %d", again, err, number)
	}
	must(t, finish(t, d, number, api.Failed))
	unchanged(t, f.owner, func() { must(t, finish(t, d, number, api.Failed)) })

	d = fetch(t, q)
	must(t, d.Release())
	unchanged(t, f.owner, func() { must(t, d.Release()) })
}

// No secret is in what is said of a queue.
func TestSecrets(t *testing.T) {
	for _, url := range []string{
		"postgres://u:hunter2@127.0.0.1:1/d", "postgres://u:hunter2@127.0.0.1:1/d?sslmode=nonsense",
		"host=127.0.0.1 port=1 password=hunter2", "host=127.0.0.1 port=1 password=hunter2 sslrootcert=/missing sslmode=verify-ca",
		"postgres://u:hunter2@h:port/d", "postgres://u:hunter2@[::1/d",
	} {
		var log strings.Builder
		q, err := postgres.Open(url, postgres.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err == nil {
			q.Close()
			t.Errorf("%s: no error", url)
			continue
		}
		if said := err.Error() + log.String(); strings.Contains(said, "hunter2") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: says %s", url, said)
		}
	}
}

// An owner's cancel is heard at once, though the runner looks for no work.
func TestCancelIsHeard(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	f.Submit(t, &api.Task{ID: "b", Command: "true"})
	const lease = time.Hour // of which it does not wait for a third
	q := openWith(t, f.url, "runner", lease, 20*time.Second)
	a, b := fetch(t, q), fetch(t, q)
	await(t, "the claim is renewed, and that not soon again", func() bool { return f.owner.Count(t, "select count(*) from studioml.task where beat > changed") > 0 })
	must(t, f.owner.Cancel(t.Context(), "a"))
	select {
	case <-a.Context().Done():
	case <-time.After(time.Minute):
		t.Fatal("not heard")
	}
	if cause := context.Cause(a.Context()); cause != queue.ErrCancelled || b.Context().Err() != nil {
		t.Errorf("stopped because %v; the other: %v", cause, context.Cause(b.Context()))
	}
	list, err := f.owner.List(t.Context(), "a")
	if err != nil || list[0].State != api.TaskRunning {
		t.Errorf("until it has stopped it is %+v (%v)", list, err)
	}
}
