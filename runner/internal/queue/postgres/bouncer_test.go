package postgres_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// Behind a pooler that lends connections for a transaction, where who listens hears
// nothing, runners find tasks by looking, and hear of a cancel when they renew. More
// of them than there are connections do so.
func TestBouncer(t *testing.T) {
	t.Parallel()
	s, err := pgserver.Start(pgserver.Hasty)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	direct := newQueue(t, s)
	const few = 3
	b, err := s.Bouncer(few)
	must(t, err)
	t.Cleanup(func() { b.Close() })
	named, err := url.Parse(direct)
	must(t, err)
	through := b.URL(strings.TrimPrefix(named.Path, "/"))
	owner := open(t, through, "")
	c := newCrowd(t, through, 100)
	const tasks = 60
	_, err = owner.Submit(t.Context(), numbered(tasks))
	must(t, err)
	await(t, "all tasks end", func() bool { return c.ended() == tasks })
	c.stop()
	once(t, owner, c, tasks)

	f := &fixture{owner: owner}
	f.Submit(t, &api.Task{ID: "large", Command: "true", Resources: api.Resources{GPUs: 8}})
	looked, fetched := make(chan bool, 1), make(chan queue.Delivery, 1)
	go func() {
		var d queue.Delivery
		if insist(t.Context(), func() (err error) {
			d, err = c.queues[0].Fetch(t.Context(), func(class api.Resources) bool {
				select {
				case looked <- true:
				default:
				}
				return class.GPUs == 0
			})
			return err
		}) {
			fetched <- d
		}
	}()
	<-looked // what comes now is found by the next look
	f.Submit(t, &api.Task{ID: "late", Command: "true"})
	var d queue.Delivery
	await(t, "it is found", func() bool {
		select {
		case d = <-fetched:
			return true
		default:
			return false
		}
	})
	must(t, owner.Cancel(t.Context(), "late"))
	await(t, "the cancel is heard", func() bool { return context.Cause(d.Context()) == queue.ErrCancelled })
	if n := open(t, direct, "").Count(t, "select count(*) from pg_stat_activity where backend_type = 'client backend' and datname = current_database() and pid <> pg_backend_pid()"); n > few {
		t.Errorf("%d connections to the server, want at most %d", n, few)
	}
}
