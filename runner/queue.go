package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/runner/internal/observe"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/queue/postgres"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

// Place is where the queue is. Commands embed it.
type Place struct {
	Spool string `env:"STUDIOML_SPOOL" type:"path" placeholder:"DIR" help:"Directory of the queue and of the results; several runners may share it."`
	Queue string `env:"STUDIOML_QUEUE" placeholder:"URL" help:"The queue and the results in a PostgreSQL server, in place of a directory: postgres://USER@HOST:PORT/DATABASE?sslmode=verify-full. What it leaves out comes from libpq's variables, as PGPASSFILE."`
}

// secret finds a password in a URL, or in libpq's other form.
var secret = regexp.MustCompile(`(?i)://[^/@]*:[^/@]+@|password\s*=`)

// Validate is called by kong.
func (p *Place) Validate() error {
	if (p.Spool == "") == (p.Queue == "") {
		return errors.New("--spool or --queue is needed, and not both: a queue is in a directory or in a PostgreSQL server (STUDIOML_SPOOL and STUDIOML_QUEUE count, too)")
	}
	return unseen(p.Queue)
}

// unseen refuses a password where others see it.
func unseen(url string) error {
	typed := func(arg string) bool { return strings.Contains(arg, url) }
	if secret.MatchString(url) && slices.ContainsFunc(os.Args, typed) {
		return errors.New("--queue has a password in it, which every list of processes shows; must be without, and the password in the file that PGPASSFILE names, or the URL in the variable STUDIOML_QUEUE")
	}
	return nil
}

// runnersQueue is the queue of a runner, ownersQueue that of the commands.
type (
	runnersQueue interface {
		queue.Queue
		queue.Offers
		Close() error
	}
	ownersQueue interface {
		queue.Store
		Close() error
	}
)

// look calls do with the queue, of which do changes nothing.
func (p *Place) look(do func(queue.Store) error) error {
	if p.Queue != "" {
		return p.open(do)
	}
	if err := p.exists(); err != nil {
		return err
	}
	return do(spool.Look(p.Spool))
}

// change calls do with the queue, which must be there.
func (p *Place) change(do func(queue.Store) error) error {
	if err := p.exists(); err != nil {
		return err
	}
	return p.open(do)
}

func (p *Place) exists() error {
	if _, err := os.Stat(p.Spool); err != nil && p.Queue == "" {
		return fmt.Errorf("there is no queue: %w; name the directory that the runners use", err)
	}
	return nil
}

// open calls do with the queue; a spool is made if there is none.
func (p *Place) open(do func(queue.Store) error) (err error) {
	var store ownersQueue
	if p.Queue != "" {
		store, err = postgres.Open(p.Queue, postgres.Options{})
	} else {
		store, err = spool.Open(p.Spool, spool.Options{})
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return do(store)
}

// forRunner connects a runner to its queue.
func (p *Place) forRunner(name, work string, log *slog.Logger, metrics *observe.Metrics) (runnersQueue, error) {
	if p.Queue == "" {
		return spool.Open(p.Spool, spool.Options{Runner: name, Log: log})
	}
	q, err := postgres.Open(p.Queue, postgres.Options{Runner: name, Work: work, Log: log})
	if err != nil {
		return nil, err
	}
	log.Info("the queue is in a server", "queue", q.String())
	metrics.Queue(&q.Failures, &q.Lost, &q.Late)
	return q, nil
}

// Queue is the command for those who run a server.
type Queue struct {
	Init QueueInit `cmd:"" help:"Make the tables of a queue in a PostgreSQL database, or bring them up to date."`
}

// QueueInit is the queue init command.
type QueueInit struct {
	Queue string `env:"STUDIOML_QUEUE" required:"" placeholder:"URL" help:"The database, as of a user who may make tables in it."`
}

// Validate is called by kong.
func (q *QueueInit) Validate() error { return unseen(q.Queue) }

// Run prints what is left to do.
func (q *QueueInit) Run(ctx context.Context, stdio stdio) error {
	name, grants, err := postgres.Init(ctx, q.Queue)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdio.Out, "The queue %s is ready. Runners and submitters that are other users need:\n  %s\n", name, grants)
	return err
}
