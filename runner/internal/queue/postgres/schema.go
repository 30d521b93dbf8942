package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed schema.sql
var schema1 string

// migrations lead from one version of the schema to the next, the first to 1.
var migrations = []string{schema1}

// lacks is the error of who may not do what the queue needs, or finds no schema.
type lacks struct{ text string }

func (l *lacks) Error() string { return l.text }

// Init makes the schema of the queue, or brings it up to date, and returns its name
// and version.
func Init(ctx context.Context, url string) (name string, version int, err error) {
	config, name, err := parse(url)
	if err != nil {
		return "", 0, err
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return name, 0, fmt.Errorf("queue %s: %w", name, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlLock); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, sqlNoVersion); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, sqlVersion).Scan(&version); err != nil {
			return err
		}
		for ; version < len(migrations); version++ {
			if _, err := tx.Exec(ctx, migrations[version]); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, sqlVersionIs, version+1); err != nil {
				return err
			}
		}
		return nil
	})
	if code := sqlState(err); code == "42501" { // insufficient privilege
		err = &lacks{fmt.Sprintf("user %s must not make the queue's tables: %v; let the owner of the database do it, or: grant create on database %s to %s",
			config.ConnConfig.User, err, ident(config.ConnConfig.Database), ident(config.ConnConfig.User))}
	}
	if err != nil {
		return name, version, fmt.Errorf("queue %s: %w", name, err)
	}
	return name, version, nil
}

func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

func sqlState(err error) string {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return answer.Code
	}
	return ""
}

// Grants is what a role needs to use a queue that another has made.
func Grants(role string) string {
	return fmt.Sprintf("grant usage on schema studioml to %[1]s; grant select, insert, update, delete on all tables in schema studioml to %[1]s", role)
}

// check looks once whether the schema is there, as new as this runner, and may be
// used. A newer one suits as well.
func (q *Queue) check(ctx context.Context, db database) error {
	q.mu.Lock()
	ready := q.ready
	q.mu.Unlock()
	if ready {
		return nil
	}
	user := ident(q.pool.Config().ConnConfig.User)
	versions, err := ask(ctx, q, db, pgx.RowTo[int], sqlVersion)
	switch code := sqlState(err); {
	case code == "42P01" || code == "3F000" || err == nil && versions[0] < len(migrations): // no such table, no such schema
		err = &lacks{"its tables are missing or of an older version; let a user who may make them run: runner queue init --queue=URL"}
	case code == "42501":
		err = &lacks{fmt.Sprintf("user %s must not use it; let its owner say: %s", user, Grants(user))}
	case err == nil:
		var missing []string
		missing, err = ask(ctx, q, db, pgx.RowTo[string], sqlLacks)
		if len(missing) > 0 {
			err = &lacks{fmt.Sprintf("user %s lacks %s; let its owner say: %s", user, strings.Join(missing, ", "), Grants(user))}
		}
	}
	if err != nil {
		return fmt.Errorf("queue %s: %w", q.name, err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ready = true
	return nil
}
