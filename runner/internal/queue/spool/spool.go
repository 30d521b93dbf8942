package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// The directories of a spool.
const (
	readyDir     = "ready"
	heldDir      = "held"
	workDir      = "work"
	deadDir      = "dead"
	cancelledDir = "cancelled"
	resultsDir   = "results"
	tmpDir       = "tmp"
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
	// open for its owners only, and nothing is claimed.
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
	open   context.Context // ends with Close
	close  context.CancelFunc
	idle   chan *claim   // those without a task
	litter chan struct{} // has something while a sweep is asked for

	// fetches counts the calls of Fetch, attend and sweeping, for Close to wait for. It
	// grows only while mu is held and the spool is open.
	fetches sync.WaitGroup

	mu        sync.Mutex
	held      map[*delivery]bool // not settled yet; each has a claim of its own
	told      map[string]string  // problems that were logged, by what they are about
	lists     map[string]list    // what was seen in ready/ and its buckets, by path
	reclaimed time.Time
	tidied    time.Time
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
		dir:    dir,
		runner: opts.Runner,
		rescan: cmp.Or(opts.Rescan, time.Second),
		log:    cmp.Or(opts.Log, slog.New(slog.DiscardHandler)),
		idle:   make(chan *claim, mostIdle),
		litter: make(chan struct{}, 1),
		held:   map[*delivery]bool{},
		told:   map[string]string{},
		lists:  map[string]list{},
	}
	s.open, s.close = context.WithCancel(context.Background())
	absolute, err := filepath.Abs(dir) // tasks run elsewhere
	if err == nil {
		s.dir = absolute
		if err := s.older(); err != nil {
			return nil, fmt.Errorf("open spool %s: %w", dir, err)
		}
		err = s.prepare()
	}
	if err != nil {
		return nil, fmt.Errorf("open spool %s: %w; name a directory that this user may write, "+
			"on a file system that has flock and rename", dir, err)
	}
	return s, nil
}

func (s *Spool) prepare() error {
	if err := os.MkdirAll(s.dir, dirMode); err != nil {
		return err
	}
	for _, sub := range []string{readyDir, heldDir, workDir, deadDir, cancelledDir, resultsDir, tmpDir} {
		if err := makeDir(s.path(sub)); err != nil {
			return err
		}
	}
	if err := tree.Sync(s.dir); err != nil {
		return err
	}
	if s.runner != "" {
		c, err := s.newClaim()
		if err != nil {
			return err
		}
		s.idle <- c
		s.reclaim()
		s.fetches.Go(s.attend)
	}
	s.fetches.Go(s.sweeping)
	return nil
}

// older is an error where an older version has kept tasks: nobody would ever find them.
func (s *Spool) older() error {
	for _, place := range []string{"tasks/*.json", "claims/*/tasks/*.json"} {
		if left, _ := fs.Glob(os.DirFS(s.dir), place); len(left) > 0 {
			return fmt.Errorf("%s is of an older version, which kept tasks elsewhere; let runners of that version end all that are in %s, "+
				"or, once none of these runs, move them away and submit them again", left[0], place)
		}
	}
	return nil
}

// lastSweep is how long Close removes what is left. More is left to others: the time in
// which a pod must end is short, and nobody waits for that.
const lastSweep = 100 * time.Millisecond

// Close releases every delivery that was not settled and gives up the claim.
// Whatever goes wrong, the lock is dropped, so that other runners can take
// back what is left.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.isClosed() {
		s.mu.Unlock()
		return nil
	}
	s.close()
	s.mu.Unlock()
	s.fetches.Wait()

	s.mu.Lock()
	s.removeOffer()
	held := slices.Collect(maps.Keys(s.held))
	s.mu.Unlock()

	var problems []error
	for len(s.idle) > 0 {
		problems = append(problems, s.closeClaim(<-s.idle))
	}
	for _, d := range held {
		problems = append(problems, s.abandon(d))
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastSweep)
	defer cancel()
	s.sweep(ctx)
	return errors.Join(problems...)
}

// abandon gives back a task that was not settled, unless a process of its attempt
// still lives. Then its supervisor has the lock, and whatever runner finds it free
// takes the task back.
func (s *Spool) abandon(d *delivery) error {
	d.claim.lock.Close()
	free, err := ifFree(s.lockPath(d.claim.name), func(lock *os.File) error {
		d.claim.lock = lock
		if err := d.Release(); !errors.Is(err, errSettled) {
			return err
		}
		return nil
	})
	if err == nil && !free {
		s.log.Warn("a task stays claimed, because its attempt has not ended", "task", d.task.ID)
	}
	return err
}

func (s *Spool) path(elements ...string) string {
	return filepath.Join(append([]string{s.dir}, elements...)...)
}

func (s *Spool) isClosed() bool { return s.open.Err() != nil }
