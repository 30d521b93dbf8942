package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/queue/postgres"
)

// crowd runs tasks, whatever the server does.
type crowd struct {
	queues []*postgres.Queue
	size   int // of the output of each task
	stop   func()

	mu   sync.Mutex
	runs map[string]int // attempts that ran to their end
	over map[string]int // and were told so, as the queue says
}

// newCrowd starts runners on a queue. They end by stop, or with the test.
func newCrowd(t *testing.T, url string, size int) *crowd {
	t.Helper()
	c := &crowd{size: size, runs: make(map[string]int), over: make(map[string]int)}
	ctx, enough := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	c.stop = func() {
		enough()
		workers.Wait()
	}
	for i := range 3 {
		q := openWith(t, url, fmt.Sprintf("runner-%d", i), long, long/2)
		c.queues = append(c.queues, q)
		for range 2 {
			workers.Go(func() { c.work(ctx, t, q) })
		}
	}
	t.Cleanup(c.stop)
	return c
}

// numbered makes tasks.
func numbered(n int) []*api.Task {
	tasks := make([]*api.Task, n)
	for i := range tasks {
		tasks[i] = &api.Task{ID: fmt.Sprintf("task-%d", i), Command: "true"}
	}
	return tasks
}

func (c *crowd) work(ctx context.Context, t *testing.T, q *postgres.Queue) {
	for ctx.Err() == nil {
		d, err := q.Fetch(ctx, func(api.Resources) bool { return true })
		if err != nil {
			pause(ctx, 20*time.Millisecond)
			continue
		}
		number := 0
		if !insist(ctx, func() (err error) { number, err = d.Begin(nil); return err }) {
			continue
		}
		results, _ := d.Local()
		made, err := results.Begin(d.Task().ID, number)
		if err == nil {
			err = os.WriteFile(made.Stdout(), make([]byte, c.size), 0o644)
		}
		if err != nil {
			t.Errorf("prepare: %v", err)
			return
		}
		pause(ctx, 10*time.Millisecond) // it runs
		c.mu.Lock()
		c.runs[d.Task().ID]++
		c.mu.Unlock()
		r := api.Result{Task: d.Task().ID, Attempt: number, Outcome: api.Succeeded}
		if insist(ctx, func() error { _, err := d.Finish(r, made); return err }) {
			c.mu.Lock()
			c.over[d.Task().ID]++
			c.mu.Unlock()
		}
	}
}

// insist repeats what fails, as the scheduler does, and returns false if it never
// will be.
func insist(ctx context.Context, do func() error) bool {
	for ctx.Err() == nil {
		err := do()
		if err == nil || errors.Is(err, queue.ErrLost) {
			return err == nil
		}
		pause(ctx, 20*time.Millisecond)
	}
	return false
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (c *crowd) ended() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.over)
}

// await waits for what must come.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	const patience = 5 * time.Minute
	for deadline := time.Now().Add(patience); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// long is a lease that runs out on no busy machine, if runners are as they should be.
const long = 8 * time.Second

// Whatever becomes of the server while tasks run, each is run to its end once, and
// has one result; no claim is lost by an outage for all.
//
// catalogue: row 76
func TestOutages(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		size  int
		fault func(t *testing.T, s *pgserver.Server, p *pgserver.Proxy, c *crowd)
	}{
		{"killed", 100, func(t *testing.T, s *pgserver.Server, _ *pgserver.Proxy, c *crowd) {
			must(t, s.Kill())
			awaitFailures(t, c)
			must(t, s.Start())
		}},
		{"stopped", 100, func(t *testing.T, s *pgserver.Server, _ *pgserver.Proxy, c *crowd) {
			must(t, s.Stop())
			awaitFailures(t, c)
			must(t, s.Start())
		}},
		{"cut off", 100, func(t *testing.T, _ *pgserver.Server, p *pgserver.Proxy, c *crowd) {
			p.Cut()
			awaitFailures(t, c)
			time.Sleep(long) // the time after which claims would be taken back
			p.Restore()
		}},
		{"full", 50 << 10, func(t *testing.T, s *pgserver.Server, _ *pgserver.Proxy, c *crowd) {
			filler := filepath.Join(s.Dir, "filler")
			must(t, pgserver.Fill(filler))
			awaitFailures(t, c)
			must(t, os.Remove(filler))
			must(t, s.Stop()) // if it had not given up by itself
			must(t, s.Start())
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			disk := os.TempDir()
			if test.name == "full" {
				disk = mount(t, "100m")
			}
			s, err := pgserver.StartIn(disk, pgserver.Hasty)
			must(t, err)
			t.Cleanup(func() { s.Close() })
			direct := newQueue(t, s)
			p, err := s.Proxy()
			must(t, err)
			t.Cleanup(func() { p.Close() })

			const tasks = 150
			owner := open(t, direct, "")
			if _, err := owner.Submit(t.Context(), numbered(tasks)); err != nil {
				t.Fatal(err)
			}
			c := newCrowd(t, through(direct, p), test.size)
			await(t, "some tasks end", func() bool { return c.ended() > tasks/10 })
			test.fault(t, s, p, c)
			await(t, "all tasks end", func() bool { return c.ended() == tasks })
			c.stop()
			once(t, owner, c, tasks)
		})
	}
}

// once requires that each task ran once and has one result.
func once(t *testing.T, owner *postgres.Queue, c *crowd, tasks int) {
	t.Helper()
	for id, n := range c.runs {
		if n != 1 {
			t.Errorf("%s ran %d times", id, n)
		}
	}
	list, err := owner.List(t.Context())
	if err != nil || len(list) != tasks {
		t.Fatalf("%d tasks are known (%v), want %d", len(list), err, tasks)
	}
	for _, task := range list {
		results, err := owner.Results(t.Context(), task.ID)
		if err != nil || len(results) != 1 || task.State != api.TaskFinished {
			t.Errorf("%s is %s with %d results (%v), want Finished with one", task.ID, task.State, len(results), err)
		}
	}
	for _, q := range c.queues {
		if lost, late := q.Lost.Load(), q.Late.Load(); lost != 0 || late != 0 {
			t.Errorf("%d claims were lost, %d ends are not told", lost, late)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// awaitFailures waits until each runner has met the outage.
func awaitFailures(t *testing.T, c *crowd) {
	t.Helper()
	await(t, "each runner meets the outage", func() bool {
		for _, q := range c.queues {
			if q.Failures.Load() == 0 {
				return false
			}
		}
		return true
	})
}

// through names the same database by way of a proxy.
func through(direct string, p *pgserver.Proxy) string {
	u, _ := url.Parse(direct)
	u.RawQuery, u.Host = "", p.Address()
	return u.String()
}

// mount makes a small disk, and returns where it is.
func mount(t *testing.T, size string) (dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	dir, err := os.MkdirTemp("", "pgserver-")
	must(t, err)
	must(t, unix.Mount("pgserver", dir, "tmpfs", 0, "mode=755,size="+size))
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
		os.Remove(dir)
	})
	return dir
}
