package postgres_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/runner/api"
)

// pair is a server with a standby, and the ways to both, which lead to them in turn.
type pair struct {
	primary, standby *pgserver.Server
	way, other       *pgserver.Proxy
}

func newPair(t *testing.T, dir string) (p *pair, url string) {
	t.Helper()
	s, err := pgserver.StartIn(dir)
	must(t, err)
	must(t, s.Stop())
	s.Settings = []string{"max_wal_size=32MB", "wal_retrieve_retry_interval=100ms"}
	must(t, s.Start())
	p = &pair{primary: s}
	t.Cleanup(func() {
		for _, s := range []*pgserver.Server{p.standby, p.primary} {
			if s != nil {
				s.Close()
			}
		}
	})
	direct := newQueue(t, s)
	p.standby, err = s.Standby()
	must(t, err)
	p.way, err = p.primary.Proxy()
	must(t, err)
	t.Cleanup(func() { p.way.Close() })
	p.other, err = p.standby.Proxy()
	must(t, err)
	t.Cleanup(func() { p.other.Close() })
	return p, through(direct, p.way, p.other)
}

// failOver kills the server, and lets the standby take over.
func (p *pair) failOver(t *testing.T) {
	t.Helper()
	must(t, p.primary.Kill())
	must(t, p.standby.Promote())
	p.primary, p.standby, p.way, p.other = p.standby, p.primary, p.other, p.way
}

// renew makes a standby of what is left of the server of before.
func (p *pair) renew(t *testing.T) {
	t.Helper()
	must(t, p.standby.Close())
	p.standby = nil
	standby, err := p.primary.Standby()
	must(t, err)
	p.standby = standby
	p.other.To(standby)
}

// Nothing is lost when a standby takes over: no task, no claim, no result.
//
// catalogue: row 76
func TestFailover(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "pgserver-")
	must(t, err)
	p, url := newPair(t, dir)
	const tasks = 150
	owner := open(t, url, "")
	insist(t.Context(), func() error { _, err := owner.Submit(t.Context(), numbered(tasks)); return err })
	c := newCrowd(t, url, 100)
	await(t, "some tasks end", func() bool { return c.ended() > tasks/10 })
	p.failOver(t)
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
	dir, err := os.MkdirTemp("", "pgserver-")
	must(t, err)
	p, url := newPair(t, dir)
	owner, q := openWith(t, url, "", long, time.Second), openWith(t, url, "r", long, time.Second)
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
	must(t, p.standby.Kill())
	for _, when := range []string{"while it waits for the standby", "after the server was killed"} {
		for name, do := range map[string]func() error{"finish": finish, "submit": submit} {
			if do() == nil {
				t.Errorf("%s is said to be done %s", name, when)
			}
		}
		must(t, p.primary.Kill())
		must(t, p.primary.Start())
	}
	must(t, p.standby.Start())
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
	disk, err := os.MkdirTemp("", "pgserver-")
	must(t, err)
	mount(t, disk, "400m")
	must(t, os.Chmod(disk, 0o755))
	dir, err := os.MkdirTemp(disk, "pgserver-")
	must(t, err)
	p, url := newPair(t, dir)
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

	away := every / 2
	faults := []func(){
		func() { must(t, p.primary.Kill()); pause(t.Context(), away); must(t, p.primary.Start()) },
		func() { must(t, p.primary.Stop()); pause(t.Context(), away); must(t, p.primary.Start()) },
		func() { p.way.Cut(); pause(t.Context(), away); p.way.Restore() },
		func() {
			filler := filepath.Join(disk, "filler")
			fill(t, filler)
			pause(t.Context(), away)
			must(t, os.Remove(filler))
			for _, s := range []*pgserver.Server{p.primary, p.standby} { // if they have not given up by themselves
				must(t, s.Kill())
				must(t, s.Start())
			}
		},
		func() { p.failOver(t); pause(t.Context(), away); p.renew(t) },
	}
	n := 0
	for begin := time.Now(); time.Since(begin) < whole || n < len(faults); n++ {
		next := time.Now().Add(every)
		faults[n%len(faults)]()
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
