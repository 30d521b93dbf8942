package spool

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// A checkpoint is in the result of the attempt that left it, so that both come in
// one step. That of the last attempt which has one counts.
const checkpointDir = "checkpoint"

// Checkpoint implements queue.Delivery.
func (d *delivery) Checkpoint(dir string) error {
	for _, n := range slices.Backward(d.spool.attempts(d.task.ID)) {
		from, err := os.OpenRoot(d.spool.checkpoint(d.task.ID, n))
		if missing(err) {
			continue
		}
		if err == nil {
			err = os.CopyFS(dir, from.FS()) // no link leads out of it
			from.Close()
		}
		if err != nil {
			return fmt.Errorf("copy the checkpoint of attempt %d: %w", n, err)
		}
		return nil
	}
	return nil
}

// dropCheckpoints removes those that do not count any more.
func (d *delivery) dropCheckpoints(r api.Result) error {
	if r.Attempt == 1 {
		return nil
	}
	if _, err := os.Lstat(d.spool.checkpoint(r.Task, r.Attempt)); err != nil && r.Outcome != api.Succeeded {
		return nil
	}
	var problems []error
	for _, n := range d.spool.attempts(r.Task) {
		if n < r.Attempt {
			problems = append(problems, tree.Remove(d.spool.checkpoint(r.Task, n)))
		}
	}
	// They cost room and no more: the next attempt, or purge, removes what could not be.
	d.spool.sayOnce("could not remove a checkpoint", r.Task, errors.Join(problems...))
	return nil
}

func (s *Spool) checkpoint(id string, attempt int) string {
	return s.path(resultsDir, id, strconv.Itoa(attempt), checkpointDir)
}

// attempts lists the numbers of the attempts that have results.
func (s *Spool) attempts(id string) (numbers []int) {
	names, _ := dirNames(s.path(resultsDir, id))
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil && n > 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers
}
