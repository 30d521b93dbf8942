package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// The directories of a spool.
const (
	tasksDir   = "tasks"
	claimsDir  = "claims"
	deadDir    = "dead"
	resultsDir = "results"
	tmpDir     = "tmp"
	submitLock = "submit.lock"
)

// staleAfter is the age at which a left-over in tmp/ is removed. It is far
// above the moment that such a file lives, and above any honest difference
// between the clocks of two machines.
const staleAfter = time.Hour

// errClosed is what a closed spool answers.
var errClosed = errors.New("spool is closed")

// Options say how a process uses the spool.
type Options struct {
	// Runner is the name of the runner that fetches. Without one the spool is
	// open for Submit only, and nothing is claimed.
	Runner string
	// Rescan is how often the directory is looked through when no event comes,
	// as on network file systems, and how often the claims of dead runners are
	// looked for. 0 means one second.
	Rescan time.Duration
	// Finished says whether a task has the result that ends it. A runner that
	// dies between storing the result and Ack leaves the task behind; Fetch then
	// removes it instead of handing it out again. nil means that it never has.
	Finished func(id string) bool
	// Log gets a line for each task that is buried by Fetch or taken back from
	// a dead runner. nil means none.
	Log *slog.Logger
}

// Spool is an open spool directory. Its methods may be called concurrently.
type Spool struct {
	dir    string
	runner string
	rescan time.Duration
	ended  func(id string) bool
	log    *slog.Logger
	closed chan struct{}

	// fetches counts the calls of Fetch, for Close to wait for. It grows only
	// while mu is held and closed is open.
	fetches sync.WaitGroup

	mu        sync.Mutex
	claim     *claim   // the present one; nil without a runner name
	old       []*claim // those that disappeared and still hold deliveries
	reclaimed time.Time
	refused   map[string]*api.Task // what Fetch need not read again, by file name
}

var _ queue.Queue = (*Spool)(nil)

// Open makes the directories that are missing, takes a claim and gives back
// the tasks of runners that have died.
func Open(dir string, opts Options) (*Spool, error) {
	s := &Spool{
		dir:     dir,
		runner:  opts.Runner,
		rescan:  cmp.Or(opts.Rescan, time.Second),
		ended:   opts.Finished,
		log:     cmp.Or(opts.Log, slog.New(slog.DiscardHandler)),
		closed:  make(chan struct{}),
		refused: map[string]*api.Task{},
	}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open spool %s: %w; name a directory that this user may write, "+
			"on a file system that has flock and rename", dir, err)
	}
	return s, nil
}

func (s *Spool) open() error {
	for _, sub := range []string{tasksDir, claimsDir, deadDir, resultsDir, tmpDir} {
		if err := os.MkdirAll(s.path(sub), dirMode); err != nil {
			return err
		}
	}
	if err := syncDirs(s.dir); err != nil {
		return err
	}
	s.sweep()
	if s.runner == "" {
		return nil
	}
	var err error
	if s.claim, err = newClaim(s.dir, s.runner); err != nil {
		return err
	}
	s.reclaim()
	return nil
}

// sweep removes what processes that died have left in tmp/.
func (s *Spool) sweep() {
	entries, _ := os.ReadDir(s.path(tmpDir)) // the next Open tries again
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > staleAfter {
			os.RemoveAll(s.path(tmpDir, e.Name()))
		}
	}
}

// Close releases every delivery that was not settled and gives up the claim.
// Whatever goes wrong, the lock is dropped, so that other runners can take
// back what is left.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.isClosed() {
		s.mu.Unlock()
		return nil
	}
	close(s.closed)
	s.mu.Unlock()
	s.fetches.Wait()

	s.mu.Lock()
	claims := append(s.old, s.claim)
	s.old, s.claim = nil, nil
	s.mu.Unlock()

	var problems []error
	for _, c := range claims {
		if c == nil {
			continue
		}
		for _, d := range c.unsettled() {
			if err := d.Release(); !errors.Is(err, errSettled) {
				problems = append(problems, err)
			}
		}
		problems = append(problems, c.close())
	}
	return errors.Join(problems...)
}

// Work returns a directory for unfinished results. It is on the file system of
// ResultsDir and is removed with all that is in it when this process dies.
func (s *Spool) Work() (string, error) {
	c, err := s.ensureClaim()
	if err != nil {
		return "", fmt.Errorf("find work directory: %w", err)
	}
	return c.path(workDir), nil
}

// ResultsDir is the directory of the spool dir for package result.
func ResultsDir(dir string) string { return filepath.Join(dir, resultsDir) }

func (s *Spool) path(elements ...string) string {
	return filepath.Join(append([]string{s.dir}, elements...)...)
}

func (s *Spool) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// enter counts a Fetch, unless the spool is closed.
func (s *Spool) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return errClosed
	}
	s.fetches.Add(1)
	return nil
}

// ensureClaim returns the present claim, or a new one if somebody removed the
// directory or exchanged the whole spool.
func (s *Spool) ensureClaim() (*claim, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.isClosed():
		return nil, errClosed
	case s.claim == nil:
		return nil, errors.New("spool was opened without the name of a runner")
	case s.claim.present():
		return s.claim, nil
	}
	fresh, err := newClaim(s.dir, s.runner)
	if err != nil {
		return nil, err // the usual case: the whole spool is out of reach
	}
	s.log.LogAttrs(context.Background(), slog.LevelWarn, "claim directory is gone, made a new one",
		slog.String("old", s.claim.dir), slog.String("new", fresh.dir))
	if len(s.claim.unsettled()) > 0 {
		s.old = append(s.old, s.claim) // its deliveries may come back into reach
	} else {
		s.claim.lock.Close()
	}
	s.claim = fresh
	return fresh, nil
}
