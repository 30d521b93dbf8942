package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/runner/api"
)

// database is a queue in a PostgreSQL server with a standby, both on a small disk.
type database struct {
	*Arena
	pair *pgserver.Pair
}

const databaseName = "chaos"

// serverFaults are what becomes of the server.
var serverFaults = func() (list []fault) {
	for _, f := range pgserver.Faults {
		list = append(list, fault{"server-" + f.Name, "server", f.Small, time.Second, 4 * time.Second,
			func(ctx context.Context, a *Arena, h *hit) error {
				return f.Strike(a.queue.(*database).pair, func() { h.last(ctx) })
			}})
	}
	return list
}()

// openDatabase starts the servers, and has the runner make its tables.
func openDatabase(ctx context.Context, a *Arena) (d *database, err error) {
	d = &database{Arena: a}
	if d.pair, err = pgserver.StartPair(a.path("disk")); err != nil {
		return d, err
	}
	if _, err = d.pair.Primary.Database(ctx, databaseName); err != nil {
		return d, err
	}
	cmd := exec.CommandContext(ctx, a.Runner, "queue", "init")
	cmd.Env = []string{d.variable()}
	if output, err := cmd.CombinedOutput(); err != nil {
		return d, fmt.Errorf("queue init: %w: %s", err, output)
	}
	return d, nil
}

func (d *database) variable() string { return "STUDIOML_QUEUE=" + d.pair.URL(databaseName) }

// ask asks the server without any code of the runner's. No fault strikes any more.
func (d *database) ask(ctx context.Context, query string, to any) error {
	return d.pair.Primary.Query(ctx, databaseName, query, to)
}

func (d *database) empty(ctx context.Context) (empty bool) {
	err := d.ask(ctx, "select not exists (select from studioml.task where state in ('Waiting', 'Running'))", &empty)
	return err == nil && empty
}

func (d *database) read(ctx context.Context) error {
	var dead []struct{ ID, Reason string }
	var left []string
	err := errors.Join(
		d.ask(ctx, "select coalesce(json_agg(convert_from(document, 'UTF8')::json), '[]') from studioml.result", &d.record.Results),
		d.ask(ctx, "select coalesce(json_agg(json_build_object('id', id, 'reason', reason)), '[]') from studioml.task where state = 'Dead'", &dead),
		d.ask(ctx, `select coalesce(json_agg(what), '[]') from (
			select 'task ' || id || ' is claimed still' as what from studioml.task where state = 'Running'
			union all
			select distinct 'files of claim ' || claim || ', which nobody finds,' from studioml.file f
			where not exists (select from studioml.result r where r.claim = f.claim) and not exists (select from studioml.task t where t.checkpoint = f.claim)
		) as found`, &left))
	for _, letter := range dead {
		d.record.Dead[letter.ID] = api.DeadLetter{Reason: letter.Reason}
	}
	for _, what := range left {
		d.left("%s is left", what)
	}
	return err
}
