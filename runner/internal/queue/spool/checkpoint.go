package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// A checkpoint is in the result of the attempt that left it, so that both come in
// one step. That of the last attempt which has one counts.
func (s *Spool) checkpoint(id string, attempt int) string {
	return filepath.Join(s.results().Path(id, attempt), "checkpoint")
}

// Checkpoint implements queue.Delivery.
func (d *delivery) Checkpoint(dir string) error {
	if d.entry.starts == 1 {
		return nil // there was none before
	}
	attempts, err := d.spool.results().Attempts(d.task.ID)
	if err != nil {
		return fmt.Errorf("look for a checkpoint: %w", err)
	}
	for _, n := range slices.Backward(attempts) {
		from, err := os.OpenRoot(d.spool.checkpoint(d.task.ID, n))
		if missing(err) {
			continue
		}
		if err == nil {
			err = tree.Copy(dir, tree.FS{Root: from}) // no link leads out of it
			from.Close()
		}
		if err != nil {
			return fmt.Errorf("copy the checkpoint of attempt %d: %w", n, err)
		}
		return nil
	}
	return nil
}

// dropCheckpoints removes those that do not count any more. They cost room and no
// more: the next attempt, or purge, removes what could not be.
func (d *delivery) dropCheckpoints(r api.Result) {
	if r.Attempt == 1 || r.Outcome != api.Succeeded && !isThere(d.spool.checkpoint(r.Task, r.Attempt)) {
		return
	}
	attempts, err := d.spool.results().Attempts(r.Task)
	problems := []error{err}
	for _, n := range attempts {
		if n < r.Attempt {
			problems = append(problems, d.spool.throwAway(d.spool.checkpoint(r.Task, n)))
		}
	}
	d.spool.sayOnce("could not remove a checkpoint", r.Task, errors.Join(problems...))
}
