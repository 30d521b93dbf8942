package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/studioml/studio-go-runner/runner/api"
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

// Validate lets a flag outweigh the variable of the other.
func (p *Place) Validate(kctx *kong.Context) error {
	typed := func(flag string) bool {
		return slices.ContainsFunc(kctx.Path, func(p *kong.Path) bool { return p.Flag != nil && p.Flag.Name == flag })
	}
	switch spool, queue := typed("spool"), typed("queue"); {
	case queue && !spool:
		p.Spool = ""
	case spool && !queue:
		p.Queue = ""
	}
	if (p.Spool == "") == (p.Queue == "") {
		return errors.New("--spool or --queue is needed, and not both: a queue is in a directory or in a PostgreSQL server (where there is no flag, STUDIOML_SPOOL and STUDIOML_QUEUE count)")
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

// connection is a queue to a runner, and to the owners of tasks.
type connection interface {
	queue.Queue
	queue.Store
	queue.Offers
	io.Closer
	// Length says how many tasks wait, and how many are dead letters.
	Length(context.Context) (map[api.TaskState]int, error)
}

// glance is a directory that is only looked into, so that there is nothing to close.
type glance struct{ *spool.Spool }

func (glance) Close() error { return nil }

// What a command does with a queue.
type use int

const (
	toLook use = iota
	toChange
	toMake // a spool is made if there is none
)

func (p *Place) with(use use, do func(connection) error) error {
	q, err := p.open(use, postgres.Options{})
	if err != nil {
		return err
	}
	return p.whose(errors.Join(do(q), q.Close()))
}

// open connects to the queue, as a runner if the options name one.
func (p *Place) open(use use, o postgres.Options) (q connection, err error) {
	if p.Queue != "" {
		return postgres.Open(p.Queue, o)
	}
	there, err := p.there()
	switch {
	case err != nil:
	case !there && use != toMake:
		err = fmt.Errorf("there is no queue in %s; name the directory that the runners use", p.Spool)
	case use == toLook:
		q = glance{spool.Look(p.Spool)}
	default:
		q, err = spool.Open(p.Spool, spool.Options{Runner: o.Runner, Log: o.Log})
	}
	return q, p.whose(err)
}

// there says whether there is a queue, be it one of the first release, which had claims.
// It refuses a directory that should not become one. Volumes are made with lost+found.
func (p *Place) there() (bool, error) {
	if p.Queue != "" {
		return true, nil
	}
	entries, err := os.ReadDir(p.Spool)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("open spool %s: %w; name a directory", p.Spool, errors.Unwrap(err))
	}
	ours := func(e fs.DirEntry) bool { return e.IsDir() && slices.Contains([]string{"ready", "claims"}, e.Name()) }
	foreign := func(e fs.DirEntry) bool { return e.Name() != "lost+found" && !strings.HasPrefix(e.Name(), ".") }
	if slices.ContainsFunc(entries, ours) {
		return true, nil
	}
	if i := slices.IndexFunc(entries, foreign); i >= 0 {
		return false, fmt.Errorf("there is no queue in %s, but other files, as %s; "+
			"name the directory that the runners use, or an empty one for a new queue", p.Spool, entries[i].Name())
	}
	return false, nil
}

// whose says whose queue it is to who may not use it.
func (p *Place) whose(err error) error {
	info, unknown := os.Stat(p.Spool) // "" of a server
	if !errors.Is(err, fs.ErrPermission) || unknown != nil || !strings.Contains(err.Error(), p.Spool) {
		return err
	}
	owner := fmt.Sprint(info.Sys().(*syscall.Stat_t).Uid)
	if u, err := user.LookupId(owner); err == nil {
		owner = u.Username
	}
	return fmt.Errorf("%w; the queue belongs to the user %s: do this as that user", err, owner)
}

type Queue struct {
	Init QueueInit `cmd:"" help:"Make the tables of a queue in a PostgreSQL database, or bring them up to date."`
}

type QueueInit struct {
	Queue string `env:"STUDIOML_QUEUE" required:"" placeholder:"URL" help:"The database, as of a user who may make tables in it."`
}

func (q *QueueInit) Validate() error { return unseen(q.Queue) }

func (q *QueueInit) Run(ctx context.Context, stdio stdio) error {
	name, grants, err := postgres.Init(ctx, q.Queue)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdio.Out, "The queue %s is ready. Runners and submitters that are other users need:\n  %s\n", name, grants)
	return err
}
