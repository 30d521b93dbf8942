package postgres_test

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue/postgres"
)

// user names a database as another user.
func user(of, name string) string {
	u, _ := url.Parse(of)
	u.User = url.User(name)
	return u.String()
}

// Whoever lacks something is told what to say or to run, until all works.
func TestRights(t *testing.T) {
	const database = "rights"
	_, _, missing := postgres.Init(t.Context(), server.URL("nowhere"))
	if missing == nil || !strings.Contains(missing.Error(), "make it first, as createdb does") {
		t.Errorf("no database: %v; want what to do in it", missing)
	}
	if _, err := server.Database(t.Context(), database); err != nil {
		t.Fatal(err)
	}
	say := func(sql string) {
		t.Helper()
		must(t, server.Exec(t.Context(), database, sql))
	}
	say(`create role "Fleet 1" login; create role maker login`)
	refused := func(what string, err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q in it", what, err, want)
		}
	}
	fleet := func() error {
		for _, runner := range []string{"", "runner"} { // one who submits is refused as a runner is
			q, err := postgres.Open(user(server.URL(database), "Fleet 1"), postgres.Options{Runner: runner})
			if err != nil {
				return err
			}
			must(t, q.Close())
		}
		return nil
	}
	refused("no tables", fleet(), "runner queue init")
	_, _, err := postgres.Init(t.Context(), user(server.URL(database), "maker"))
	refused("no right to make them", err, `grant create on database "rights" to "maker"`)
	say(`grant create on database rights to maker`)
	_, grants, err := postgres.Init(t.Context(), user(server.URL(database), "maker"))
	must(t, err)
	refused("no right to use them", fleet(), `grant usage on schema studioml to "Fleet 1"; grant select`)
	say(`grant usage on schema studioml to "Fleet 1"; grant select on studioml.schema to "Fleet 1"; grant select, insert, update, delete on studioml.task, studioml.file to "Fleet 1"`)
	refused("no right to one", fleet(), `lacks select on studioml.result, insert on`)
	say(strings.ReplaceAll(grants, "USER", `"Fleet 1"`))
	must(t, fleet())

	q := open(t, user(server.URL(database), "Fleet 1"), "runner")
	_, err = q.Submit(t.Context(), []*api.Task{{ID: "a", Command: "true"}})
	must(t, err)
	d := fetch(t, q)
	number, err := d.Begin(nil)
	must(t, err)
	must(t, finish(t, d, number, api.Succeeded))
}

// Many who make the tables at once make them once; a version of after is left alone.
func TestInit(t *testing.T) {
	database, err := server.Database(t.Context(), "init")
	must(t, err)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, _, err := postgres.Init(t.Context(), database); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	must(t, server.Exec(t.Context(), "init", `insert into studioml.schema values (99)`))
	_, _, err = postgres.Init(t.Context(), database)
	must(t, err)
	must(t, open(t, database, "runner").Close())
	must(t, server.Exec(t.Context(), "init", `delete from studioml.schema`))
	if _, err := postgres.Open(database, postgres.Options{Runner: "runner"}); err == nil || !strings.Contains(err.Error(), "older than this runner") {
		t.Errorf("of an older version: %v", err)
	}
}

// An older runner meets newer tables, and a newer one older tables: both work after
// queue init, whoever has run it, or say what is needed.
func TestVersions(t *testing.T) {
	t.Parallel()
	database, err := server.Database(t.Context(), "versions")
	must(t, err)
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile("testdata/" + name)
		must(t, err)
		return string(text)
	}
	say := func(sql string) {
		t.Helper()
		must(t, server.Exec(t.Context(), "versions", sql))
	}
	refused := func(want string) {
		t.Helper()
		q, err := postgres.Open(database, postgres.Options{Runner: "runner"})
		if err == nil {
			q.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("opened with %v, want %q", err, want)
		}
	}
	// As the release of before has made them.
	say(`create schema studioml; create table studioml.schema (version integer primary key, since timestamptz not null default now())`)
	say(read("schema1.sql") + `; insert into studioml.schema values (1)`)
	say(`insert into studioml.task (id, document, gpus, gpu_memory) values ('old', '{"id":"old","command":"true"}', 0, 0)`)
	refused("older than this runner; let the owner of the database run: runner queue init")
	_, _, err = postgres.Init(t.Context(), database)
	must(t, err)
	for i, block := range strings.Split(read("statements1.sql"), "\n-- name: ")[1:] {
		if name, sql, _ := strings.Cut(block, "\n"); name != "lock" && name != "place" && name != "listen" {
			if err := server.Exec(t.Context(), "versions", fmt.Sprintf("prepare s%d as %s", i, sql)); err != nil {
				t.Errorf("a runner of before cannot say %s: %v", name, err)
			}
		}
	}
	q := open(t, database, "runner")
	if got := fetch(t, q).Task().ID; got != "old" {
		t.Errorf("fetched %s", got)
	}
	// A newer release that this one can share with, and one that it cannot.
	say(`alter table studioml.task add column later text; insert into studioml.schema values (98)`)
	_, _, err = postgres.Init(t.Context(), database)
	must(t, err)
	must(t, open(t, database, "other").Close())
	say(`insert into studioml.schema values (99, now(), 99)`)
	const word = "its tables are of a newer release (version 99; this runner knows 2), and runners as old as this one cannot share them; use a newer one"
	refused(word)
	say(`select pg_terminate_backend(pid) from pg_stat_activity where datname = 'versions' and pid <> pg_backend_pid()`)
	await(t, "a runner that was there before says so", func() bool {
		_, err := q.Fetch(t.Context(), func(api.Resources) bool { return true })
		return err != nil && strings.Contains(err.Error(), word)
	})
}

// A task of a newer release waits for a runner of such a one.
func TestNewerTask(t *testing.T) {
	t.Parallel()
	f := &fixture{url: newQueue(t, server)}
	f.owner = open(t, f.url, "")
	f.Submit(t, &api.Task{ID: "newer", Command: "true", Format: api.TaskFormat + 1, Priority: 1})
	f.Submit(t, &api.Task{ID: "a", Command: "true"})
	d := fetch(t, open(t, f.url, "runner"))
	if d.Task().ID != "a" {
		t.Errorf("fetched %s", d.Task().ID)
	}
	list, err := f.owner.List(t.Context(), "newer")
	if err != nil || list[0].State != api.TaskWaiting || list[0].Starts != 0 {
		t.Errorf("listed %+v (%v), want it to wait", list, err)
	}
	must(t, f.owner.Cancel(t.Context(), "newer")) // its owner can do all with it
}
