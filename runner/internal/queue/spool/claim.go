package spool

import (
	"context"
	"crypto/rand"
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
)

// What a claim directory holds beside its tasks.
const (
	lockFile  = "lock"
	ownerFile = "owner"
	workDir   = "work"
)

// claim is a directory in claims/ whose lock this process holds.
type claim struct {
	spool string // the spool directory
	dir   string // the claim directory in it
	lock  *os.File

	mu   sync.Mutex
	held map[*delivery]bool // not settled yet
}

// token makes a name that no other process makes.
func token() string { return strings.ToLower(rand.Text())[:16] }

// newClaim makes the directory elsewhere, locks it, and only then moves it to
// where other runners look, so that they never see it without its lock.
func newClaim(spool, runner string) (_ *claim, err error) {
	name := token()
	made := filepath.Join(spool, tmpDir, "claim-"+name)
	if err := os.Mkdir(made, dirMode); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(made)
		}
	}()
	for _, sub := range []string{tasksDir, workDir, tmpDir} {
		if err := os.Mkdir(filepath.Join(made, sub), dirMode); err != nil {
			return nil, err
		}
	}
	if err := writeFile(filepath.Join(made, ownerFile), []byte(runner+"\n")); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(made, lockFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	if ok, err := tryLock(lock); err != nil {
		return nil, err
	} else if !ok {
		return nil, fmt.Errorf("lock %s: held by another process", lock.Name())
	}
	// A claim that a power failure forgets must not take tasks along.
	if err := syncDirs(made); err != nil {
		return nil, err
	}
	c := &claim{
		spool: spool,
		dir:   filepath.Join(spool, claimsDir, name),
		lock:  lock,
		held:  map[*delivery]bool{},
	}
	if err := os.Rename(made, c.dir); err != nil {
		return nil, err
	}
	return c, syncDirs(filepath.Dir(c.dir))
}

func (c *claim) path(elements ...string) string {
	return filepath.Join(append([]string{c.dir}, elements...)...)
}

// present says whether the claim is where other runners look for it.
func (c *claim) present() bool { return isAt(c.lock, c.path(lockFile)) }

func (c *claim) hold(d *delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[d] = true
}

func (c *claim) settled(d *delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.held, d)
}

func (c *claim) unsettled() []*delivery {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.held))
}

// close removes the directory and drops the lock, the latter in any case.
func (c *claim) close() error {
	err := removeClaim(c.spool, c.dir)
	return errors.Join(err, c.lock.Close())
}

// removeClaim removes a claim directory whose lock the caller holds. It does
// not if there is a task left in it. The directory leaves claims/ in one step,
// so that no half of it, without a lock, is ever seen there.
func removeClaim(spool, dir string) error {
	if err := os.Remove(filepath.Join(dir, tasksDir)); err != nil && !missing(err) {
		return err
	}
	gone := filepath.Join(spool, tmpDir, "gone-"+filepath.Base(dir))
	if err := os.Rename(dir, gone); missing(err) {
		return nil
	} else if err != nil {
		return err
	}
	return os.RemoveAll(gone)
}

// reclaimIfDue calls reclaim if the last time is long enough ago.
func (s *Spool) reclaimIfDue() {
	due := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if time.Since(s.reclaimed) < s.rescan {
			return false
		}
		s.reclaimed = time.Now()
		return true
	}()
	if due {
		s.reclaim()
	}
}

// reclaim gives the tasks of dead runners back. What cannot be done now is
// logged and tried again: it must not keep this runner from its own work.
func (s *Spool) reclaim() {
	entries, _ := os.ReadDir(s.path(claimsDir)) // Fetch reports a spool that cannot be read
	for _, e := range entries {
		if err := s.reclaimOne(s.path(claimsDir, e.Name())); err != nil {
			s.log.LogAttrs(context.Background(), slog.LevelDebug, "could not take back a claim",
				slog.String("claim", e.Name()), slog.Any("error", err))
		}
	}
}

func (s *Spool) reclaimOne(dir string) error {
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR, 0)
	if missing(err) {
		return nil // another runner has just removed it
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if ok, err := tryLock(lock); err != nil || !ok {
		return err // not ok: the owner lives, or another runner is doing this
	}
	if !isAt(lock, lock.Name()) {
		return nil // another runner was faster, and is done
	}
	names, err := fileNames(filepath.Join(dir, tasksDir))
	if err != nil && !missing(err) {
		return err
	}
	for _, name := range names {
		if err := rename(filepath.Join(dir, tasksDir), name, s.path(tasksDir), name); err != nil {
			return err
		}
		s.log.LogAttrs(context.Background(), slog.LevelInfo, "took a task back from a dead runner",
			slog.String("file", name), slog.String("runner", readOwner(dir)))
	}
	if len(names) > 0 {
		if err := syncDirs(s.path(tasksDir), filepath.Join(dir, tasksDir)); err != nil {
			return err
		}
	}
	return removeClaim(s.dir, dir)
}

// readOwner returns the name of the runner that a claim directory belongs to,
// empty if it cannot be read.
func readOwner(claim string) string {
	text, err := os.ReadFile(filepath.Join(claim, ownerFile))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
