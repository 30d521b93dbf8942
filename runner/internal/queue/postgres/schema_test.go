package postgres_test

import (
	"net/url"
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
