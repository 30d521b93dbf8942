// Package result stores what attempts leave behind:
//
//	<dir>/<task>/<attempt>/result.json   api.Result
//	<dir>/<task>/<attempt>/stdout
//	<dir>/<task>/<attempt>/stderr
//
// An attempt's directory appears there in one step, complete and on the disk.
// Until then it is made in a working directory, which whoever owns it clears
// when this process dies; with a spool that is the runner's claim.
package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/studioml/studio-go-runner/runner/api"
)

const (
	dirMode  = 0o755
	fileMode = 0o644

	resultFile = "result.json"
	stdoutFile = "stdout"
	stderrFile = "stderr"
)

// Store is a directory of results. Its methods may be called concurrently.
type Store struct {
	dir  string
	work func() (string, error)
}

// New returns the store in dir. work names the directory for unfinished
// attempts, which must be on the same file system; it is asked for each
// attempt, because a claim may change. For reading only it may be nil.
func New(dir string, work func() (string, error)) *Store {
	return &Store{dir: dir, work: work}
}

// Path is where the result of an attempt is, or will be.
func (s *Store) Path(task string, attempt int) string {
	return filepath.Join(s.dir, task, strconv.Itoa(attempt))
}

// List returns the results of a task, first attempt first; none if there are
// none. Results that can be read are returned even if others cannot.
func (s *Store) List(task string) ([]api.Result, error) {
	if err := checkID(task); err != nil {
		return nil, fmt.Errorf("list results: %w", err)
	}
	attempts, err := s.Attempts(task)
	if err != nil {
		return nil, fmt.Errorf("list results: %w", err)
	}
	var results []api.Result
	var problems []error
	for _, n := range attempts {
		r, err := s.Read(task, n)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		results = append(results, *r)
	}
	return results, errors.Join(problems...)
}

// Attempts lists the attempts of a task that have results.
func (s *Store) Attempts(task string) (attempts []int, err error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, task))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n > 0 && e.IsDir() {
			attempts = append(attempts, n)
		}
	}
	slices.Sort(attempts)
	return attempts, err
}

// Read returns the result of one attempt. Its output is in Path.
func (s *Store) Read(task string, attempt int) (*api.Result, error) {
	if err := checkID(task); err != nil {
		return nil, fmt.Errorf("read result: %w", err)
	}
	path := filepath.Join(s.Path(task, attempt), resultFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read result: %w", err)
	}
	var r api.Result
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("read result %s: %w", path, err)
	}
	return &r, nil
}

// checkID keeps IDs that are no plain file names away from the file system.
func checkID(task string) error {
	if err := (&api.Task{ID: task, Command: "true"}).Validate(); err != nil {
		return err
	}
	if task == "" {
		return errors.New("task has no id")
	}
	return nil
}
