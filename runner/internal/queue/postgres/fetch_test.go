package postgres_test

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue/postgres"
)

// A task that another statement holds for a moment, as a sign of life does just after
// it is given back, is looked at again soon, and not only when it is time to look anyway.
func TestHeldForAMoment(t *testing.T) {
	t.Parallel()
	url := newQueue(t, server)
	f := &fixture{url: url, owner: open(t, url, "")}
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	let := f.owner.Hold(t, "a")
	q, err := postgres.Open(url, postgres.Options{Runner: "runner", Work: t.TempDir(), Look: 3 * time.Minute}) // hears no word of it
	must(t, err)
	t.Cleanup(func() { q.Close() })
	fetched := make(chan error, 1)
	go func() {
		_, err := q.Fetch(t.Context(), func(api.Resources) bool { return true })
		fetched <- err
	}()
	await(t, "the runner has looked", func() bool {
		return f.owner.Count(t, "select count(*) from pg_stat_activity where datname = current_database() and state = 'idle' and query like '%gen_random_uuid%'") > 0
	})
	let()
	select {
	case err := <-fetched:
		must(t, err)
	case <-time.After(time.Minute):
		t.Fatal("the runner did not look again")
	}
}

// What was written while the server's clock was years ahead holds nobody up when it is
// right again: neither what waits, nor what runs, nor what runs no more.
func TestAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	at, err := url.Parse(newQueue(t, server))
	must(t, err)
	f := &fixture{owner: open(t, at.String(), "")}
	// The server has started in a year.
	must(t, f.owner.Say(`create schema ahead`))
	must(t, f.owner.Say(`create function ahead.pg_postmaster_start_time() returns timestamptz return now() + interval '1 year'`))
	words := at.Query()
	words.Set("search_path", "ahead,pg_catalog")
	at.RawQuery = words.Encode()
	f.url = at.String()
	for _, id := range []string{"runs", "died", "waits", "pauses"} {
		f.Submit(t, &api.Task{ID: id, Command: "true"})
	}
	q, dead := openWith(t, f.url, "runner", long, 20*time.Second), openWith(t, f.url, "dead", long, 20*time.Second)
	d := fetch(t, q)
	number, err := d.Begin(nil)
	must(t, err)
	fetch(t, dead)
	dead.Crash()
	must(t, f.owner.Say(`update studioml.task set spent = 1 where id = 'pauses'`))
	must(t, f.owner.Say(`update studioml.task set place = now() + interval '1 year' where state = 'Waiting'`))
	must(t, f.owner.Say(`update studioml.task set beat = now() + interval '1 year' where state = 'Running'`))
	list, err := f.owner.List(t.Context(), "pauses")
	if must(t, err); !list[0].NotBefore.IsZero() {
		t.Errorf("it is said to wait until %s", list[0].NotBefore)
	}
	must(t, f.owner.Say(`insert into studioml.offer values ('dead', '{}', now() + interval '1 year')`))
	if all, err := f.owner.Offers(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("offers of %v, %v, though no runner has said anything lately", all, err)
	}
	seen := map[string]bool{}
	for range 3 {
		seen[fetch(t, q).Task().ID] = true
	}
	if !seen["died"] || !seen["waits"] || !seen["pauses"] {
		t.Errorf("fetched %v", seen)
	}
	must(t, finish(t, d, number, api.Succeeded))
}

// What could not be buried when it was taken is, by whoever takes it next.
func TestABurialThatFailed(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	must(t, f.owner.Say(`update studioml.task set document = 'no document'`))
	must(t, f.owner.Say(`create function fail() returns trigger language plpgsql as $$ begin raise 'no burials today'; end $$`))
	must(t, f.owner.Say(`create trigger fail before update on studioml.task for each row when (new.state = 'Dead') execute function fail()`))
	q := openWith(t, f.url, "runner", long, 20*time.Second)
	serves := func(api.Resources) bool { return true }
	if _, err := q.Fetch(t.Context(), serves); err == nil || !strings.Contains(err.Error(), "no burials") {
		t.Fatalf("fetch: %v", err)
	}
	must(t, f.owner.Say(`drop trigger fail on studioml.task`))
	ctx, enough := context.WithCancel(t.Context())
	var fetching sync.WaitGroup
	fetching.Go(func() { q.Fetch(ctx, serves) })
	defer fetching.Wait()
	defer enough()
	await(t, "it is buried", func() bool { return f.owner.Count(t, "select count(*) from studioml.task where state = 'Dead'") == 1 })
	if late := q.Late.Load(); late != 0 {
		t.Errorf("%d ends are late", late)
	}
}

// What expires is buried, though no runner could ever take it.
func TestExpiresUntaken(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	expires := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	f.Submit(t, &api.Task{ID: "a", Command: "true", Resources: api.Resources{GPUs: 8}, Expires: api.Time{Time: expires}})
	f.Submit(t, &api.Task{ID: "b", Command: "true", Resources: api.Resources{GPUs: 8}})
	q := open(t, f.url, "runner")
	ctx, enough := context.WithCancel(t.Context())
	var fetching sync.WaitGroup
	fetching.Go(func() { q.Fetch(ctx, func(api.Resources) bool { return false }) })
	defer fetching.Wait()
	defer enough()
	await(t, "it is buried", func() bool {
		list, err := f.owner.List(t.Context(), "a", "b")
		must(t, err)
		i := slices.IndexFunc(list, func(s api.TaskStatus) bool { return s.ID == "a" })
		return list[i].State == api.TaskDead && list[i].Reason == "it expired at "+expires.Format(time.RFC3339) && list[1-i].State == api.TaskWaiting
	})
}
