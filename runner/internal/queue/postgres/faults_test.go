package postgres_test

import (
	"errors"
	"net/url"
	"os"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// newPair starts a server with a standby, and makes a queue there.
func newPair(t *testing.T, disk string) (p *pgserver.Pair, through string) {
	t.Helper()
	p, err := pgserver.StartPair(disk)
	must(t, err)
	t.Cleanup(func() { p.Close() })
	direct, err := url.Parse(newQueue(t, p.Primary))
	must(t, err)
	return p, p.URL(path.Base(direct.Path))
}

// Nothing is lost when a standby takes over: no task, no claim, no result.
//
// catalogue: row 76
func TestFailover(t *testing.T) {
	t.Parallel()
	p, url := newPair(t, os.TempDir())
	const tasks = 150
	owner := open(t, url, "")
	insist(t.Context(), func() error { _, err := owner.Submit(t.Context(), numbered(tasks)); return err })
	c := newCrowd(t, url, 100)
	await(t, "some tasks end", func() bool { return c.ended() > tasks/10 })
	must(t, p.FailOver())
	await(t, "all tasks end", func() bool { return c.ended() == tasks })
	c.stop()
	insist(t.Context(), func() error { _, err := owner.List(t.Context()); return err })
	once(t, owner, c, tasks)
}

// What a server had committed, but not passed on, when it was killed can be seen
// afterwards. Nobody takes it for done before the standby has it, too: the standby may
// take over.
func TestDoneIsDoneOnTheStandby(t *testing.T) {
	t.Parallel()
	p, url := newPair(t, os.TempDir())
	owner, q := openWith(t, url, "", long, 3*time.Second), openWith(t, url, "r", long, 3*time.Second)
	insist(t.Context(), func() error { _, err := owner.Submit(t.Context(), numbered(1)); return err })
	d, number := fetch(t, q), 0
	insist(t.Context(), func() (err error) { number, err = d.Begin(nil); return err })
	results, _ := d.Local()
	made, err := results.Begin(d.Task().ID, number)
	must(t, err)
	finish := func() error {
		_, err := d.Finish(api.Result{Task: d.Task().ID, Attempt: number, Outcome: api.Succeeded}, made)
		return err
	}
	submit := func() error { _, err := owner.Submit(t.Context(), numbered(2)); return err }
	for _, let := range []func(){q.Hold(t, ""), q.Hold(t, ""), q.Hold(t, "")} {
		let() // a connection of before is there for each try
	}
	must(t, p.Standby.Kill())
	for _, when := range []string{"while it waits for the standby", "after the server was killed"} {
		for try, do := range []func() error{finish, finish, finish, submit} { // the first may wait for a sign of life
			if err := do(); err == nil || errors.Is(err, queue.ErrLost) {
				t.Errorf("try %d %s: %v, want that the server does not answer", try+1, when, err)
			}
		}
		must(t, p.Primary.Kill())
		must(t, p.Primary.Start())
	}
	must(t, p.Standby.Start())
	if !insist(t.Context(), finish) || !insist(t.Context(), submit) {
		t.Error("what was not done before cannot be done with the standby")
	}
}

// One fault after the other while tasks are submitted, fetched and ended: none is
// lost, and each has one result that was accepted. FAULTS says for how long, as 1m;
// then there is one every 5 s.
//
// catalogue: row 76
func TestFaults(t *testing.T) {
	t.Parallel()
	const tasks = 1000
	whole, every := 12*time.Second, 2*time.Second
	if text := os.Getenv("FAULTS"); text != "" {
		var err error
		whole, err = time.ParseDuration(text)
		must(t, err)
		every = 5 * time.Second
	}
	p, url := newPair(t, mount(t, "400m"))
	c := newCrowd(t, url, 10<<10)
	owner := open(t, url, "")
	var submits sync.WaitGroup
	submits.Go(func() {
		const at = 20 // a time
		all := numbered(tasks)
		for i := 0; i < tasks; i += at {
			insist(t.Context(), func() error { _, err := owner.Submit(t.Context(), all[i:i+at]); return err })
			pause(t.Context(), whole*at/tasks)
		}
	})
	t.Cleanup(submits.Wait)

	away := func() { pause(t.Context(), every/2) }
	n := 0
	for begin := time.Now(); time.Since(begin) < whole || n < len(pgserver.Faults); n++ {
		next := time.Now().Add(every)
		must(t, pgserver.Faults[n%len(pgserver.Faults)].Strike(p, away))
		pause(t.Context(), time.Until(next))
	}
	submits.Wait()
	await(t, "all tasks end", func() bool { return c.ended() == tasks })
	c.stop()
	t.Logf("%d faults, %d tasks run %d times", n, tasks, c.ran())
	list, err := owner.List(t.Context())
	if err != nil || len(list) != tasks {
		t.Fatalf("%d tasks are known (%v), want %d", len(list), err, tasks)
	}
	for _, task := range list {
		results, err := owner.Results(t.Context(), task.ID)
		accepted := 0
		for _, r := range results {
			if r.Outcome == api.Succeeded {
				accepted++
			}
		}
		if err != nil || accepted != 1 || task.State != api.TaskFinished {
			t.Errorf("%s is %s with %d results (%v), want Finished with one", task.ID, task.State, accepted, err)
		}
	}
}

func (c *crowd) ran() (n int) {
	for _, times := range c.runs {
		n += times
	}
	return n
}
