package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed schema.sql
var schema1 string

// migrations lead from each version of the schema to the next, the first to 1.
var migrations = []string{schema1}

// The codes of PostgreSQL for what the schema, or the user's rights, do not suit.
const noTable, noSchema, noRight = "42P01", "3F000", "42501"

// code is what the server has answered, if it has.
func code(err error) string {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return answer.Code
	}
	return ""
}

// Init makes the tables of the queue, or brings them up to date, and returns what
// the queue is called and what other users need to have granted.
func Init(ctx context.Context, url string) (name, grants string, err error) {
	config, name, err := parse(url)
	if err != nil {
		return "", "", err
	}
	const limit = time.Minute // another may be at it, and a large table takes long
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err == nil {
		defer conn.Close(ctx)
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return migrate(ctx, tx) })
	}
	if code(err) == noRight {
		err = fmt.Errorf("%w; let the owner of the database do it, or say: grant create on database %s to %s",
			err, quote(config.ConnConfig.Database), quote(config.ConnConfig.User))
	}
	if err != nil {
		return "", "", fmt.Errorf("queue %s: %w", name, plain{err})
	}
	return name, needed("USER"), nil
}

func migrate(ctx context.Context, tx pgx.Tx) error {
	for _, name := range []string{"lock", "place"} {
		if _, err := tx.Exec(ctx, statement(name)); err != nil {
			return err
		}
	}
	var version int
	if err := tx.QueryRow(ctx, statement("version")).Scan(&version); err != nil {
		return err
	}
	for ; version < len(migrations); version++ {
		_, err := tx.Exec(ctx, migrations[version])
		if err == nil {
			_, err = tx.Exec(ctx, statement("versionIs"), version+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// needed is what a user needs who has not made the tables.
func needed(user string) string {
	return fmt.Sprintf("grant usage on schema studioml to %[1]s; grant select, insert, update, delete on all tables in schema studioml to %[1]s", user)
}

// errSchema marks what only a person can mend.
var errSchema = errors.New("the queue cannot be used")

// final says whether an error will not pass by itself: the server has answered, and
// not that it is starting, ending, full or somebody's standby.
func final(err error) bool {
	class := (code(err) + "  ")[:2]
	return errors.Is(err, errSchema) || class != "  " && !strings.Contains("08 25 40 53 57 58 XX", class)
}

// check finds out once whether the tables are there, are as new as this runner, and
// may be used. Newer ones suit as well.
func (q *Queue) check(db database) error {
	if q.checked.Load() {
		return nil
	}
	user := quote(q.pool.Config().ConnConfig.User)
	versions, err := ask(q, db, pgx.RowTo[int], "version")
	switch c := code(err); {
	case c == noTable || c == noSchema || err == nil && versions[0] < len(migrations):
		err = fmt.Errorf("%w: its tables are missing, or older than this runner; let the owner of the database run: runner queue init", errSchema)
	case c == noRight:
		err = fmt.Errorf("%w: user %s must not; let the owner of the tables say: %s", errSchema, user, needed(user))
	case err == nil:
		var missing []string
		if missing, err = ask(q, db, pgx.RowTo[string], "lacks"); len(missing) > 0 {
			err = fmt.Errorf("%w: user %s lacks %s; let the owner of the tables say: %s", errSchema, user, strings.Join(missing, ", "), needed(user))
		}
	}
	if err != nil {
		return fmt.Errorf("queue %s: %w", q.name, err)
	}
	q.checked.Store(true)
	return nil
}
