package postgres_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue/postgres"
)

func anyClass(api.Resources) bool { return true }

// newBench makes a queue with tasks in it, and connects runners to it.
func newBench(b *testing.B, on *pgserver.Server, runners int, tasks ...*api.Task) (url string, queues []*postgres.Queue) {
	b.Helper()
	url, err := on.Database(b.Context(), fmt.Sprintf("bench%d", databases.Add(1)))
	if err == nil {
		_, _, err = postgres.Init(b.Context(), url)
	}
	for i := 0; i < runners && err == nil; i++ {
		var q *postgres.Queue
		q, err = postgres.Open(url, postgres.Options{Runner: fmt.Sprintf("runner-%d", i), Work: b.TempDir()})
		if err == nil {
			b.Cleanup(func() { q.Close() })
			queues = append(queues, q)
		}
	}
	if err == nil {
		_, err = queues[0].Submit(b.Context(), tasks)
	}
	if err != nil {
		b.Fatal(err)
	}
	return url, queues
}

// What a task costs, by how many others wait: most of them of a class that this
// runner does not serve.
func BenchmarkTask(b *testing.B) {
	for _, waiting := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("waiting=%d", waiting), func(b *testing.B) {
			tasks := numbered(few(waiting))
			for i, t := range tasks {
				t.Resources.GPUs = i % 8
			}
			begin := time.Now()
			_, queues := newBench(b, newServer(b), 1, tasks...)
			submit := float64(time.Since(begin).Microseconds()) / float64(len(tasks))
			for b.Loop() {
				d, err := queues[0].Fetch(b.Context(), func(class api.Resources) bool { return class.GPUs == 7 })
				if err == nil {
					err = d.Release()
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(submit, "µs/submit") // the loop forgets what was reported before
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N), "µs/fetch")
		})
	}
}

// Tasks a second: fetched, begun and finished, beside what the server does in a loop
// that only claims and finishes rows, with as many connections.
func BenchmarkRunners(b *testing.B) {
	s := newServer(b, "max_connections=500")
	for _, runners := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprintf("runners=%d", runners), func(b *testing.B) {
			_, queues := newBench(b, s, runners, numbered(b.N)...)
			b.ResetTimer()
			share(b, runners, func(i int) error { return play(b.Context(), queues[i]) })
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
		})
		b.Run(fmt.Sprintf("server=%d", runners), func(b *testing.B) {
			url, queues := newBench(b, s, 1)
			if err := queues[0].Say("create table bare as select n, 0 as state from generate_series(1, $1::integer) n", b.N); err != nil {
				b.Fatal(err)
			}
			if err := queues[0].Say("create index on bare (n) where state = 0; create unique index on bare (n)"); err != nil {
				b.Fatal(err)
			}
			pool, err := pgxpool.New(b.Context(), fmt.Sprintf("%s&pool_max_conns=%d", url, runners))
			if err != nil {
				b.Fatal(err)
			}
			defer pool.Close()
			b.ResetTimer()
			share(b, runners, func(int) error {
				var n int
				err := pool.QueryRow(b.Context(), `update bare set state = 1 where n = (select n from bare where state = 0 order by n limit 1 for update skip locked) returning n`).Scan(&n)
				if err == nil {
					_, err = pool.Exec(b.Context(), "update bare set state = 2 where n = $1", n)
				}
				return err
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
		})
	}
}

// play fetches a task and runs it to its end.
func play(ctx context.Context, q *postgres.Queue) error {
	d, err := q.Fetch(ctx, anyClass)
	if err != nil {
		return err
	}
	if _, err := d.Begin(nil); err != nil {
		return err
	}
	results, _ := d.Local()
	made, err := results.Begin(d.Task().ID, 1)
	if err == nil {
		_, err = d.Finish(api.Result{Task: d.Task().ID, Attempt: 1, Outcome: api.Succeeded}, made)
	}
	return err
}

// share has workers do b.N things.
func share(b *testing.B, workers int, do func(worker int) error) {
	things := make(chan bool, b.N)
	for range b.N {
		things <- true
	}
	close(things)
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			for range things {
				if err := do(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// What 1,000 runners without work cost the server, and how long a task that comes
// then takes to its end. Each listens by a connection of its own.
func BenchmarkIdle(b *testing.B) {
	runners, some := few(1000), 10*time.Second
	if testing.Short() {
		some = time.Second
	}
	s := newServer(b, "max_connections=1100")
	url, queues := newBench(b, s, runners)
	ctx, enough := context.WithCancel(b.Context())
	ended := make(chan error)
	var all sync.WaitGroup
	for _, q := range queues {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := play(ctx, q); ctx.Err() == nil {
					ended <- err
				}
			}
		})
	}
	defer all.Wait()
	defer enough()
	owner, err := postgres.Open(url, postgres.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer owner.Close()
	const listening = "select count(*) from pg_stat_activity where state = 'idle' and query like '%recursive head%'"
	for owner.Count(b, listening) < runners {
		time.Sleep(100 * time.Millisecond)
	}
	const said = "select xact_commit from pg_stat_database where datname = current_database()"
	before, used := owner.Count(b, said), cpu(s)
	time.Sleep(some)
	queries, busy := owner.Count(b, said)-before, cpu(s)-used
	each := memory(s) / runners
	n := 0
	for b.Loop() {
		if _, err := owner.Submit(ctx, []*api.Task{{ID: fmt.Sprint("task-", n), Command: "true"}}); err != nil {
			b.Fatal(err)
		}
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(queries)/some.Seconds(), "idle-queries/s")
	b.ReportMetric(100*busy.Seconds()/some.Seconds(), "idle-%core")
	b.ReportMetric(float64(each)/1024, "KiB/runner")
}

// few is n, and in the short form next to nothing: one task of each class.
func few(n int) int {
	if testing.Short() {
		return max(8, n/100)
	}
	return n
}

func newServer(b *testing.B, settings ...string) *pgserver.Server {
	b.Helper()
	s, err := pgserver.Start()
	if err == nil {
		b.Cleanup(func() { s.Close() })
		s.Settings = settings
		err = s.Stop()
	}
	if err == nil {
		err = s.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// processes are the directories in /proc of a server's processes.
func processes(s *pgserver.Server) (dirs []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range all {
		if dir, _ := os.Readlink(link); strings.HasPrefix(dir, s.Dir) {
			dirs = append(dirs, filepath.Dir(link))
		}
	}
	return dirs
}

// memory is what they have, in bytes, each page once.
func memory(s *pgserver.Server) (sum int) {
	for _, dir := range processes(s) {
		text, _ := os.ReadFile(filepath.Join(dir, "smaps_rollup"))
		for line := range strings.Lines(string(text)) {
			if kib, ok := strings.CutPrefix(line, "Pss:"); ok {
				n, _ := strconv.Atoi(strings.Fields(kib)[0])
				sum += n << 10
			}
		}
	}
	return sum
}

// cpu is the processor time that they have used.
func cpu(s *pgserver.Server) (sum time.Duration) {
	for _, dir := range processes(s) {
		text, _ := os.ReadFile(filepath.Join(dir, "schedstat"))
		ns, _, _ := strings.Cut(string(text), " ")
		n, _ := strconv.ParseInt(ns, 10, 64)
		sum += time.Duration(n)
	}
	return sum
}
