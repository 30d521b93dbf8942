package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Attempt is an attempt whose result is not stored yet. Exactly one of Commit
// and Discard ends it.
type Attempt struct {
	store  *Store
	task   string
	number int

	dir     string // in the working directory; out and scratch are in it
	renamed bool   // out is in its place, though perhaps not durably
}

// Begin makes the directories of an attempt.
func (s *Store) Begin(task string, attempt int) (*Attempt, error) {
	a, err := s.begin(task, attempt)
	if err != nil {
		return nil, fmt.Errorf("begin result of attempt %d of task %s: %w", attempt, api.Excerpt(task), err)
	}
	return a, nil
}

func (s *Store) begin(task string, attempt int) (*Attempt, error) {
	if err := checkID(task); err != nil {
		return nil, err
	}
	if attempt < 1 {
		return nil, errors.New("attempts count from 1")
	}
	work, err := s.work()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(work, fmt.Sprintf("%s.%d-", task, attempt))
	if err != nil {
		return nil, err
	}
	a := &Attempt{store: s, task: task, number: attempt, dir: dir}
	for _, d := range []string{a.out(), a.Scratch()} {
		if err := os.Mkdir(d, dirMode); err != nil {
			return nil, errors.Join(err, a.Discard())
		}
	}
	return a, nil
}

func (a *Attempt) out() string { return filepath.Join(a.dir, "out") }

// Stdout is the path for the standard output.
func (a *Attempt) Stdout() string { return filepath.Join(a.out(), stdoutFile) }

// Stderr is the path for the standard error output.
func (a *Attempt) Stderr() string { return filepath.Join(a.out(), stderrFile) }

// Scratch is an empty directory for the task to run in. It is no part of the
// result.
func (a *Attempt) Scratch() string { return filepath.Join(a.dir, "scratch") }

// Commit stores the result with the output files that are there. When it
// returns nil, all of it is on the disk; when it returns an error, nothing is
// stored or it may be, and Commit may be called again.
func (a *Attempt) Commit(r api.Result) error {
	if err := a.commit(r); err != nil {
		return fmt.Errorf("store result of attempt %d of task %s: %w", a.number, a.task, err)
	}
	os.RemoveAll(a.dir) // what is left of it goes with the claim
	return nil
}

func (a *Attempt) commit(r api.Result) error {
	if r.Task != a.task || r.Attempt != a.number {
		return fmt.Errorf("result is of attempt %d of task %s", r.Attempt, api.Excerpt(r.Task))
	}
	place := a.store.Path(a.task, a.number)
	parent := filepath.Dir(place)
	if !a.renamed {
		if err := a.write(r); err != nil {
			return err
		}
		if err := os.MkdirAll(parent, dirMode); err != nil {
			return err
		}
		// A directory that is there is empty or makes the rename fail: results
		// are never replaced.
		if err := os.Rename(a.out(), place); err != nil {
			return err
		}
		a.renamed = true
	}
	return errors.Join(sync(parent), sync(a.store.dir))
}

// write makes everything in the output directory durable, and result.json last.
func (a *Attempt) write(r api.Result) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	for _, path := range []string{a.Stdout(), a.Stderr()} {
		if err := sync(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	path := filepath.Join(a.out(), resultFile)
	if err := os.WriteFile(path, append(text, '\n'), fileMode); err != nil {
		return err
	}
	return errors.Join(sync(path), sync(a.out()))
}

// Discard removes what there is of the attempt, unless it was stored.
func (a *Attempt) Discard() error {
	if err := os.RemoveAll(a.dir); err != nil {
		return fmt.Errorf("discard attempt %d of task %s: %w", a.number, a.task, err)
	}
	return nil
}

// sync makes a file durable, or the names in a directory.
func sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
