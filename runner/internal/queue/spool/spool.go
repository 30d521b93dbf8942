package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// The directories of a spool. Two are those of runners of before.
const (
	readyDir     = "ready"
	heldDir      = "held"
	deadDir      = "dead"
	cancelledDir = "cancelled"
	resultsDir   = "results"
	tmpDir       = "tmp"
	tasksDir     = "tasks" // and that of a claim
	claimsDir    = "claims"
	submitLock   = "submit.lock"
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
	// Log gets a line for each task that is buried by Fetch or taken back from
	// a dead runner. nil means none.
	Log *slog.Logger
}

// Spool is an open spool directory. Its methods may be called concurrently.
type Spool struct {
	dir    string
	runner string
	rescan time.Duration
	log    *slog.Logger
	closed chan struct{}

	// fetches counts the calls of Fetch, and attend, for Close to wait for. It grows
	// only while mu is held and closed is open.
	fetches sync.WaitGroup

	mu        sync.Mutex
	idle      []*claim           // those without a task
	held      map[*delivery]bool // not settled yet; each has a claim of its own
	told      map[string]string  // problems that were logged, by what they are about
	durable   map[string]uint64  // buckets that are, and their inodes
	reclaimed time.Time
	swept     time.Time
	offer     *os.File // what the runner announces; nil for nothing
}

var (
	_ queue.Queue = (*Spool)(nil)
	_ queue.Store = (*Spool)(nil)
)

// Open makes the directories that are missing, takes a claim and gives back
// the tasks of runners that have died.
func Open(dir string, opts Options) (*Spool, error) {
	s := &Spool{
		dir:     dir,
		runner:  opts.Runner,
		rescan:  cmp.Or(opts.Rescan, time.Second),
		log:     cmp.Or(opts.Log, slog.New(slog.DiscardHandler)),
		closed:  make(chan struct{}),
		durable: map[string]uint64{},
		held:    map[*delivery]bool{},
		told:    map[string]string{},
	}
	absolute, err := filepath.Abs(dir) // tasks run elsewhere
	if err == nil {
		s.dir = absolute
		err = s.open()
	}
	if err != nil {
		return nil, fmt.Errorf("open spool %s: %w; name a directory that this user may write, "+
			"on a file system that has flock and rename", dir, err)
	}
	return s, nil
}

func (s *Spool) open() error {
	for _, sub := range []string{readyDir, heldDir, deadDir, cancelledDir, resultsDir, tmpDir, tasksDir, claimsDir} {
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
	c, err := newClaim(s.dir, s.runner)
	if err != nil {
		return err
	}
	s.dropClaim(c)
	s.reclaim()
	s.fetches.Go(s.attend)
	return nil
}

// sweep removes what processes that died have left in tmp/, what could not be
// removed before, and places of the queue that are empty.
func (s *Spool) sweep() {
	s.mu.Lock()
	s.swept = time.Now()
	s.mu.Unlock()
	entries, _ := os.ReadDir(s.path(tmpDir)) // the next one tries again
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && (time.Since(info.ModTime()) > staleAfter || strings.HasPrefix(e.Name(), gonePrefix)) {
			s.sayOnce("could not remove what is left of an attempt", e.Name(), tree.Remove(s.path(tmpDir, e.Name())))
		}
	}
	if s.runner == "" {
		return // who only submits has no time for more
	}
	lock, err := os.OpenFile(s.path(submitLock), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return
	}
	defer lock.Close()
	if ok, err := tryLock(lock); err != nil || !ok {
		return // somebody is about to put something there
	}
	lanes, _ := s.lanes()
	for _, l := range lanes {
		buckets, _ := l.buckets(s)
		for _, b := range buckets {
			os.Remove(l.path(s, b.name)) // which does nothing where something is in it
		}
		os.Remove(l.path(s))
		os.Remove(s.path(readyDir, l.class))
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
	s.removeOffer()
	idle, held := s.idle, slices.Collect(maps.Keys(s.held))
	s.idle = nil
	s.mu.Unlock()

	var problems []error
	for _, c := range idle {
		problems = append(problems, c.close())
	}
	for _, d := range held {
		problems = append(problems, s.abandon(d))
	}
	return errors.Join(problems...)
}

// abandon gives back a task that was not settled, unless a process of its attempt
// still lives. Then its supervisor has the locks, and whatever runner finds them
// free takes the task back. What is in memory only, because the task has destroyed
// the claim, nobody could.
func (s *Spool) abandon(d *delivery) error {
	free, err := d.claim.destroyed(), error(nil)
	if !free {
		d.claim.unlock()
		free, err = d.claim.lock(d.claim.dir)
	}
	if err == nil && !free {
		s.log.LogAttrs(context.Background(), slog.LevelWarn, "a task stays claimed, because its attempt has not ended", slog.String("task", d.task.ID))
	}
	if free {
		if err = d.Release(); errors.Is(err, errSettled) {
			err = nil
		}
	}
	d.claim.unlock()
	return err
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

// enterFetch counts a Fetch, unless the spool is closed.
func (s *Spool) enterFetch() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return errClosed
	}
	s.fetches.Add(1)
	return nil
}

// takeClaim returns a claim that holds no task.
func (s *Spool) takeClaim() (*claim, error) {
	if s.runner == "" {
		return nil, errors.New("spool was opened without the name of a runner")
	}
	for {
		c := func() (c *claim) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if last := len(s.idle) - 1; last >= 0 {
				c, s.idle = s.idle[last], s.idle[:last]
			}
			return c
		}()
		switch {
		case c == nil:
			return newClaim(s.dir, s.runner)
		case c.usable():
			return c, nil
		}
		// Somebody removed it, or exchanged the whole spool, or it is not empty.
		if isAt(c.locks[0], c.dir) {
			s.sayOnce("could not remove a claim", filepath.Base(c.dir), c.close())
		} else {
			s.log.LogAttrs(context.Background(), slog.LevelWarn, "claim directory is gone, made a new one", slog.String("old", c.dir))
		}
		c.unlock()
	}
}

// dropClaim keeps a claim without a task for the next one.
func (s *Spool) dropClaim(c *claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, c)
}

// settled takes note that a delivery is.
func (s *Spool) settled(d *delivery) {
	s.mu.Lock()
	delete(s.held, d)
	closed := s.isClosed()
	s.mu.Unlock()
	if !closed {
		s.dropClaim(d.claim)
	} else if err := d.claim.close(); err != nil {
		s.sayOnce("could not remove a claim", filepath.Base(d.claim.dir), err)
	}
}
