package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Cancel is the cancel command.
type Cancel struct {
	Place `embed:""`

	IDs []string `arg:"" name:"id" help:"Tasks that are not wanted any more."`
}

// Run cancels all that it can, and says what became of them and what it could not.
func (c *Cancel) Run(ctx context.Context, stdio stdio) error {
	return c.with(toChange, func(store connection) error {
		done, problems := each(c.IDs, func(id string) error { return store.Cancel(ctx, id) })
		if len(done) == 0 {
			return problems
		}
		tasks, err := store.List(ctx, done...)
		for _, t := range tasks {
			said := strings.ToLower(string(t.State))
			if t.State == api.TaskRunning {
				said = "was asked to stop, and ends within its runner's kill delay; runner tasks shows when"
			}
			fmt.Fprintln(stdio.Out, t.ID, said)
		}
		return errors.Join(problems, err)
	})
}

// Retry is the retry command.
type Retry struct {
	Place `embed:""`

	IDs  []string `arg:"" optional:"" name:"id" help:"Tasks that have ended and shall run once more."`
	Dead bool     `help:"All dead letters."`
}

// Validate refuses what says nothing, or too much. Kong calls it after parsing.
func (r *Retry) Validate(kctx *kong.Context) error {
	if r.Dead == (len(r.IDs) > 0) {
		return errors.New("name tasks, or --dead for all dead letters")
	}
	return r.Place.Validate(kctx)
}

// Run puts tasks back into the queue.
func (r *Retry) Run(ctx context.Context, stdio stdio) error {
	return r.with(toChange, func(store connection) error {
		ids := r.IDs
		if r.Dead {
			tasks, err := store.List(ctx)
			if err != nil {
				return err
			}
			for _, t := range tasks {
				if t.State == api.TaskDead && t.Task != nil { // what was no task never will be
					ids = append(ids, t.ID)
				}
			}
		}
		done, problems := each(ids, func(id string) error { return store.Again(ctx, id) })
		for _, id := range done {
			fmt.Fprintln(stdio.Out, id, "waits again")
		}
		return problems
	})
}

// each does something with each task, and returns those with which it could.
func each(ids []string, do func(id string) error) (done []string, problems error) {
	for _, id := range ids {
		if err := do(id); err != nil {
			problems = errors.Join(problems, err)
		} else {
			done = append(done, id)
		}
	}
	return done, problems
}

// Get is the get command.
type Get struct {
	Place `embed:""`

	ID      string `arg:"" help:"The task."`
	Dir     string `arg:"" type:"path" help:"Where to put its output, outputs and checkpoint; must not exist yet, or be empty."`
	Attempt count  `placeholder:"N" help:"Which attempt; default: the last one."`
}

// Run copies what an attempt has left.
func (g *Get) Run(ctx context.Context, stdio stdio) error {
	return g.with(toLook, func(store connection) error {
		number, err := attemptOf(ctx, store, g.ID, g.Attempt)
		if err != nil {
			return err
		}
		files, err := store.Files(ctx, g.ID, number)
		if err != nil {
			return err
		}
		defer files.Close()
		there, err := os.ReadDir(g.Dir)
		if len(there) > 0 {
			err = fmt.Errorf("%s has other files, as %s", g.Dir, there[0].Name())
		} else if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = os.CopyFS(g.Dir, files)
		}
		if err != nil {
			return fmt.Errorf("copy attempt %d: %w; name a directory that does not exist yet, or is empty", number, err)
		}
		if err := g.keepResult(ctx, store, number); err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdio.Out, "attempt %d of %s is in %s\n", number, g.ID, g.Dir)
		return err
	})
}

// keepResult adds the result where it was no file of the queue.
func (g *Get) keepResult(ctx context.Context, store connection, attempt int) error {
	result, err := resultOf(ctx, store, g.ID, attempt)
	if err != nil || result == nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(g.Dir, "result.json"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	encoder := json.NewEncoder(f)
	encoder.SetIndent("", "  ")
	return errors.Join(encoder.Encode(result), f.Close())
}

// Purge is the purge command.
type Purge struct {
	Place `embed:""`

	Older span `required:"" placeholder:"AGE" help:"Remove the tasks that ended longer ago, with their results, as 30d or 12h."`
}

// Run removes old tasks.
func (p *Purge) Run(ctx context.Context, stdio stdio) error {
	return p.with(toChange, func(store connection) error {
		n, err := store.Purge(ctx, time.Now().Add(-time.Duration(p.Older)))
		_, printErr := fmt.Fprintf(stdio.Out, "%d tasks removed\n", n)
		return errors.Join(err, printErr)
	})
}
