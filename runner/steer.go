package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// Cancel is the cancel command.
type Cancel struct {
	Place `embed:""`

	IDs []string `arg:"" name:"id" help:"Tasks that are not wanted any more."`
}

// Run cancels all that it can, and says what it could not.
func (c *Cancel) Run(ctx context.Context, stdio stdio) error {
	return c.change(func(store queue.Store) error {
		return each(stdio, c.IDs, "cancelled", func(id string) error { return store.Cancel(ctx, id) })
	})
}

// Retry is the retry command.
type Retry struct {
	Place `embed:""`

	IDs  []string `arg:"" optional:"" name:"id" help:"Tasks that have ended and shall run once more."`
	Dead bool     `help:"All dead letters."`
}

// Validate refuses what says nothing, or too much. Kong calls it after parsing.
func (r *Retry) Validate() error {
	if r.Dead == (len(r.IDs) > 0) {
		return errors.New("name tasks, or --dead for all dead letters")
	}
	return r.Place.Validate()
}

// Run puts tasks back into the queue.
func (r *Retry) Run(ctx context.Context, stdio stdio) error {
	return r.change(func(store queue.Store) error {
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
		return each(stdio, ids, "waits again", func(id string) error { return store.Again(ctx, id) })
	})
}

// each does something with each task, and says what became of it.
func each(stdio stdio, ids []string, done string, do func(id string) error) error {
	var problems []error
	for _, id := range ids {
		if err := do(id); err != nil {
			problems = append(problems, fmt.Errorf("task %s: %w", api.Excerpt(id), err))
		} else if _, err := fmt.Fprintf(stdio.Out, "%s %s\n", id, done); err != nil {
			return err
		}
	}
	return errors.Join(problems...)
}

// Get is the get command.
type Get struct {
	Place `embed:""`

	ID      string `arg:"" help:"The task."`
	Dir     string `arg:"" type:"path" help:"Where to put its output, outputs and checkpoint; must not exist yet, or be empty."`
	Attempt int    `placeholder:"N" help:"Which attempt; default: the last one."`
}

// Run copies what an attempt has left.
func (g *Get) Run(ctx context.Context, stdio stdio) error {
	return g.look(func(store queue.Store) error {
		number, err := attemptOf(ctx, store, g.ID, g.Attempt)
		if err != nil {
			return err
		}
		files, err := store.Files(ctx, g.ID, number)
		if err != nil {
			return err
		}
		defer files.Close()
		if err := os.CopyFS(g.Dir, files); err != nil {
			return fmt.Errorf("copy attempt %d: %w", number, err)
		}
		if err := g.copyResult(ctx, store, number); err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdio.Out, "attempt %d of %s is in %s\n", number, g.ID, g.Dir)
		return err
	})
}

// copyResult adds the result where it is no file of the queue.
func (g *Get) copyResult(ctx context.Context, store queue.Store, attempt int) error {
	path := filepath.Join(g.Dir, "result.json")
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	results, err := store.Results(ctx, g.ID)
	for _, r := range results {
		if r.Attempt == attempt {
			var text []byte
			if text, err = json.MarshalIndent(r, "", "  "); err == nil {
				err = os.WriteFile(path, append(text, '\n'), 0o644)
			}
		}
	}
	return err
}

// attemptOf returns the number of an attempt, the last one if none is named.
func attemptOf(ctx context.Context, store queue.Store, id string, number int) (int, error) {
	tasks, err := store.List(ctx, id)
	if err != nil {
		return 0, err
	}
	switch t := tasks[0]; {
	case t.Starts == 0:
		return 0, fmt.Errorf("task %s has not started yet", api.Excerpt(id))
	case number < 0 || number > t.Starts:
		return 0, fmt.Errorf("--attempt is %d; must be 1 to %d", number, t.Starts)
	case number == 0:
		number = t.Starts
	}
	return number, nil
}

// Purge is the purge command.
type Purge struct {
	Place `embed:""`

	Older Age `required:"" placeholder:"AGE" help:"Remove the tasks that ended longer ago, with their results, as 30d or 12h."`
}

// Age is a duration that may be in days.
type Age time.Duration

// UnmarshalText reads it.
func (a *Age) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < 0 {
		return fmt.Errorf("is %s; must be a time as 30d or 12h", api.Excerpt(string(text)))
	}
	*a = Age(d)
	return nil
}

// Run removes old tasks.
func (p *Purge) Run(ctx context.Context, stdio stdio) error {
	return p.change(func(store queue.Store) error {
		n, err := store.Purge(ctx, time.Now().Add(-time.Duration(p.Older)))
		_, printErr := fmt.Fprintf(stdio.Out, "%d tasks removed\n", n)
		return errors.Join(err, printErr)
	})
}
