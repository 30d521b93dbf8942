package postgres

import (
	"context"
	"crypto/x509"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// schema makes the tables, or adds to them what they lack.
//
//go:embed schema.sql
var schema string

// version is that of the schema.
const version = 2

// The codes of PostgreSQL for what the schema does not suit, or the user.
const noTable, noSchema, noColumn, noDatabase, noRight, wrongPassword = "42P01", "3F000", "42703", "3D000", "42501", "28P01"

// code is what the server has answered, if it has.
func code(err error) string {
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		return answer.Code
	}
	return ""
}

// Init makes the tables of the queue, or brings them up to date, and returns what
// the queue is called and what other users need to have granted.
func Init(ctx context.Context, url string) (name, grants string, err error) {
	const limit = time.Minute // another may be at it, and a large table takes long
	config, name, err := parse(url, limit)
	if err != nil {
		return "", "", err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err == nil {
		defer conn.Close(ctx)
		var there int
		if conn.QueryRow(ctx, statements["version"]).Scan(&there) != nil || there < version {
			_, err = conn.Exec(ctx, schema)
		}
	}
	if code(err) == noRight {
		err = fmt.Errorf("%w; let the owner of the database do it, or say: grant create on database %s to %s",
			err, quote(config.ConnConfig.Database), quote(config.ConnConfig.User))
	}
	if err != nil {
		return "", "", fmt.Errorf("queue %s: %w", name, plain{advised(err)})
	}
	return name, needed("USER"), nil
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
	return errors.Is(err, errSchema) || untrusted(err) || class != "  " && !strings.Contains("08 25 40 53 57 58 XX", class)
}

// untrusted says whether the server has shown a certificate that proves nothing.
func untrusted(err error) bool {
	_, stranger := errors.AsType[x509.UnknownAuthorityError](err)
	_, another := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	return stranger || another || invalid
}

// connected is called for each new connection. It says whether the tables are there,
// suit this runner and may be used, has a runner listen, and waits until what the
// runner will find done is so for good.
func (q *Queue) connected(_ context.Context, conn *pgx.Conn) error {
	type state struct {
		Version, Oldest int
		Lacks           string
	}
	found, err := ask(q, conn, pgx.RowToStructByPos[state], "check")
	c := code(err)
	if c == noRight {
		found, err = []state{{version, version, "usage on schema studioml"}}, nil
	}
	switch {
	case c == noTable || c == noSchema || c == noColumn || err == nil && found[0].Version < version:
		return fmt.Errorf("%w: its tables are missing, or older than this runner; let the owner of the database run: runner queue init", errSchema)
	case err != nil:
		return err
	case found[0].Oldest > version:
		return fmt.Errorf("%w: its tables are of a newer release (version %d; this runner knows %d), and runners as old as this one cannot share them; use a newer one", errSchema, found[0].Version, version)
	case found[0].Lacks != "":
		user := quote(conn.Config().User)
		return fmt.Errorf("%w: user %s lacks %s; let the owner of the tables say: %s", errSchema, user, found[0].Lacks, needed(user))
	case q.Runner != "":
		if _, err = ask(q, conn, pgx.RowTo[string], "settle"); err == nil {
			_, err = ask(q, conn, pgx.RowTo[string], "listen")
		}
	}
	return err
}
