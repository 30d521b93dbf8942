package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

type Submit struct {
	Place `embed:""`

	Files []string `arg:"" optional:"" name:"file" help:"Task documents, JSON or YAML, several in a file with --- between them; - is the standard input, which is also read when there is neither a file nor a command."`
	Wait  bool     `help:"Print what the tasks print until they have ended, and exit with the status of the first that did not succeed."`

	ID          string            `group:"command" placeholder:"ID" help:"Name of the task; made up without one."`
	GPUs        int               `name:"gpus" group:"command" placeholder:"N" help:"How many whole GPUs it gets."`
	GPUMemory   string            `name:"gpu-memory" group:"command" placeholder:"AMOUNT" help:"The least memory that each of them has, as 40Gi."`
	Env         map[string]string `group:"command" mapsep:"none" placeholder:"NAME=VALUE" help:"A variable of its environment; may be repeated."`
	Priority    int               `group:"command" placeholder:"N" help:"-10 to 10; the higher one is started first."`
	Timeout     time.Duration     `group:"command" placeholder:"DURATION" help:"Ends an attempt that takes longer, as 2h."`
	MaxAttempts count             `group:"command" placeholder:"N" help:"How often it may fail before it is given up; 3 without."`
	Expires     string            `group:"command" placeholder:"WHEN" help:"When it need not be started any more: a duration from now, as 12h or 2d, or a time, as 2026-12-31T23:59:00Z."`
	Workdir     string            `group:"command" placeholder:"DIR" help:"Where it starts, on the runner's machine; in an empty directory without."`

	command []string // what follows --
}

// Validate refuses what would be overheard.
func (s *Submit) Validate(kctx *kong.Context) error {
	if s.command != nil && len(s.Files) > 0 {
		return fmt.Errorf("there are a file, %s, and a command after --; submit one at a time", api.Excerpt(s.Files[0]))
	}
	for _, p := range kctx.Path {
		switch f := p.Flag; {
		case f == nil || f.Group == nil:
		case s.command == nil:
			return fmt.Errorf("--%s is for a command, as in runner submit --%s … -- python3 train.py; in a document it is a field", f.Name, f.Name)
		case f.Target.Kind() == reflect.String && f.Target.IsZero(): // often a shell's variable
			return fmt.Errorf("--%s is empty; give it a value, or leave it out", f.Name)
		}
	}
	return s.Place.Validate(kctx)
}

// Run reads and checks all documents before it submits the first, and prints
// the id of each task that is in the queue.
func (s *Submit) Run(ctx context.Context, stdio stdio) error {
	tasks, err := s.tasks(stdio.In)
	if err != nil {
		return fmt.Errorf("nothing was submitted:\n%w", err)
	}
	there, _ := s.there() // open says what is wrong
	return s.with(toMake, func(store connection) error {
		if !there {
			fmt.Fprintf(stdio.Err, "runner: made a new queue in %s\n", s.Spool)
		}
		done, err := store.Submit(ctx, tasks)
		for _, d := range done {
			if d.Before != "" {
				fmt.Fprintf(stdio.Err, "runner: %s was submitted before, and is %s\n", d.ID, d.Before)
			}
			if _, err := fmt.Fprintln(stdio.Out, d.ID); err != nil {
				return err
			}
		}
		if err != nil && len(tasks) > 1 {
			err = fmt.Errorf("%d of %d tasks were submitted; submit the same again for the rest: %w", len(done), len(tasks), err)
		}
		if err != nil || !s.Wait {
			return err
		}
		return wait(whileRead(ctx, stdio.Out), store, stdio, done)
	})
}

// wait follows the tasks, one after the other. It fails as the first that did.
func wait(ctx context.Context, store connection, stdio stdio, tasks []queue.Submitted) (err error) {
	for _, t := range tasks {
		now, end, fault := follow(ctx, store, stdio, t.ID, 1)
		if fault != nil {
			return fault
		}
		if now.State == api.TaskFinished {
			if end != nil && end.Reason != "" { // what of it is not kept
				fmt.Fprintf(stdio.Err, "runner: task %s is finished, but %s\n", t.ID, end.Reason)
			}
			continue
		}
		code, reason := exitCode(1), why(now, nil)
		if end != nil {
			code, reason = exitCode(max(end.ExitCode, 1)), cmp.Or(reason, end.Why())
		}
		fmt.Fprintf(stdio.Err, "runner: task %s is %s%s\n", t.ID, strings.ToLower(string(now.State)), after(": ", reason))
		err = cmp.Or(err, error(code))
	}
	return err
}

// tasks returns the task of the command line, or those of the files.
func (s *Submit) tasks(stdin io.Reader) (tasks []*api.Task, err error) {
	if s.command != nil {
		t, err := s.task(time.Now())
		return []*api.Task{t}, err
	}
	if len(s.Files) == 0 {
		s.Files = []string{"-"}
	}
	for _, file := range s.Files {
		read, problem := readTasks(file, stdin)
		tasks, err = append(tasks, read...), errors.Join(err, problem)
	}
	if err == nil {
		err = queue.Check(tasks)
	}
	return tasks, err
}

// task makes one of a command and its flags.
func (s *Submit) task(now time.Time) (*api.Task, error) {
	t := &api.Task{
		ID: s.ID, Env: s.Env, Resources: api.Resources{GPUs: s.GPUs}, Timeout: api.Duration(s.Timeout),
		MaxAttempts: int(s.MaxAttempts), Priority: s.Priority, Workdir: s.Workdir,
	}
	if len(s.command) > 0 {
		t.Command, t.Args = s.command[0], s.command[1:]
	}
	var memory, expiry error
	if s.GPUMemory != "" {
		memory = t.Resources.GPUMemory.UnmarshalJSON([]byte(strconv.Quote(s.GPUMemory)))
	}
	if s.Expires != "" {
		var fromNow span
		if fromNow.UnmarshalText([]byte(s.Expires)) == nil {
			t.Expires.Time = now.Add(time.Duration(fromNow)).UTC().Truncate(time.Second)
		} else if err := t.Expires.UnmarshalJSON([]byte(strconv.Quote(s.Expires))); err != nil {
			expiry = fmt.Errorf("%w, or a duration from now, as 12h", err)
		} else if t.Expires.Before(now) {
			expiry = fmt.Errorf("expires: is %s, which is over; must be a time to come, or a duration from now, as 12h", api.Excerpt(s.Expires))
		}
	}
	return t, errors.Join(memory, expiry, t.Validate())
}

// separator is a line between documents, comments what is none: both as editors,
// people who comment and other systems write them.
var (
	separator = regexp.MustCompile(`(?m)^---[ \t]*(?:#.*)?\r?(?:\n|$)`)
	comments  = regexp.MustCompile(`(?m)^[ \t\x{feff}]*(?:#.*)?$`)
)

// readTasks reads the documents of one file; errors name the file and which
// document of it.
func readTasks(file string, stdin io.Reader) (tasks []*api.Task, err error) {
	const most = 256 << 20 // so that an endless file ends
	name, from := "standard input", stdin
	if file != "-" {
		f, err := os.Open(file)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w; a command comes after --, as in runner submit -- %s", err, file)
		}
		if err != nil {
			return nil, fmt.Errorf("read task documents: %w", err)
		}
		defer f.Close()
		name, from = file, f
	}
	text, err := io.ReadAll(io.LimitReader(from, most+1))
	if err == nil && len(text) > most {
		err = fmt.Errorf("%s has more than %s; submit it in parts", name, api.Amount(most))
	}
	if err != nil {
		return nil, fmt.Errorf("read task documents: %w", err)
	}
	for n, document := range separator.Split(string(text), -1) {
		if strings.TrimSpace(comments.ReplaceAllString(document, "")) == "" {
			continue
		}
		t, problem := api.ParseTask([]byte(document))
		if problem != nil {
			err = errors.Join(err, fmt.Errorf("%s, document %d: %w", name, n+1, problem))
		}
		tasks = append(tasks, t)
	}
	if len(tasks) == 0 {
		err = fmt.Errorf("%s holds no task document", name)
	}
	return tasks, err
}
