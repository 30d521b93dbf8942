package pgserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"

	"github.com/studioml/studio-go-runner/e2e/program"
)

// Databases are those of a server that are queues, one for each scenario. They are plain
// data, for other processes.
type Databases struct {
	// URL is that of any database of the server, as the server's owner, without his
	// password, which lists of processes would show.
	URL, Password string
	// Template is a database to which nobody connects, with the tables of a queue;
	// empty where runners make their own.
	Template string
}

// template is the name of it.
const template = "template"

// Databases are those of a server that this process, or another one, has started.
func (s *Server) Databases() Databases { return Databases{URL: s.URL("postgres"), Template: template} }

// Init makes the template. Its tables the runner's program makes.
func (d *Databases) Init(ctx context.Context, runner string) error {
	d.Template = ""
	err := d.Create(ctx, template)
	if d.Template = template; err == nil {
		err = program.Run(ctx, []string{"STUDIOML_QUEUE=" + d.Of(d.Template), "PGPASSWORD=" + d.Password}, nil, nil, runner, "queue", "init")
	}
	if err != nil {
		return fmt.Errorf("make the template of the queues: %w", err)
	}
	return nil
}

// Of is the URL of a queue, without the password.
func (d Databases) Of(name string) string {
	u, err := url.Parse(d.URL)
	if err != nil {
		panic(err) // we made it
	}
	u.Path = "/" + name
	return u.String()
}

// Create makes a queue. To copy files takes the server a tenth of what it takes to log
// each page of them.
func (d Databases) Create(ctx context.Context, name string) error {
	create := "create database " + pgx.Identifier{name}.Sanitize()
	if d.Template != "" {
		create += " template " + pgx.Identifier{d.Template}.Sanitize() + " strategy file_copy"
	}
	if err := d.Exec(ctx, create); err != nil {
		return fmt.Errorf("create the queue: %w", err)
	}
	return nil
}

// Drop removes a queue, with the connections of runners that have not ended yet.
func (d Databases) Drop(ctx context.Context, name string) error {
	return d.Exec(ctx, "drop database "+pgx.Identifier{name}.Sanitize()+" with (force)")
}

// Exec runs a statement.
func (d Databases) Exec(ctx context.Context, statement string) error {
	config, err := pgx.ParseConfig(d.Of("postgres"))
	if err != nil {
		return err
	}
	config.Password = d.Password
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}
