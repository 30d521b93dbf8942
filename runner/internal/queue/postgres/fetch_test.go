package postgres_test

import (
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
