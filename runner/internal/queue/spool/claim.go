package spool

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// What a claim directory holds beside its tasks.
const (
	lockFile  = "lock"
	ownerFile = "owner"
	workDir   = "work"
	gpusFile  = "gpus" // what the attempt runs on, for people
)

// gonePrefix begins the names of claims in tmp/ that are being removed.
const gonePrefix = "gone-"

// claim is a directory in held/ that this process holds. It has at most one
// task at a time, so that an attempt that cannot be ended keeps no other task from
// other runners.
type claim struct {
	spool string // the spool directory
	dir   string // the claim directory in it
	locks []*os.File
}

// token makes a name that no other process makes.
func token() string { return strings.ToLower(rand.Text())[:16] }

// bothLocked ends the name of a claim whose owner holds a lock on the directory as
// well. The lock of a file is what runners of before, and network file systems,
// know; but the file can be removed, as by its task.
const bothLocked = ".both"

// newClaim makes the directory elsewhere, locks it, and only then moves it to
// where other runners look, so that they never see it without its lock.
func newClaim(spool, runner string) (_ *claim, err error) {
	name := token() + bothLocked
	made := filepath.Join(spool, tmpDir, "claim-"+name)
	if err := os.Mkdir(made, dirMode); err != nil {
		return nil, err
	}
	c := &claim{spool: spool, dir: filepath.Join(spool, heldDir, name)}
	defer func() {
		if err != nil {
			c.unlock()
			os.RemoveAll(made)
		}
	}()
	for _, sub := range []string{tasksDir, workDir} {
		if err := os.Mkdir(filepath.Join(made, sub), dirMode); err != nil {
			return nil, err
		}
	}
	for file, text := range map[string]string{ownerFile: runner + "\n", lockFile: ""} {
		if err := writeFile(filepath.Join(made, file), []byte(text)); err != nil {
			return nil, err
		}
	}
	if ok, err := c.lock(made); err != nil {
		return nil, err
	} else if !ok {
		return nil, fmt.Errorf("lock %s: held by another process", made)
	}
	// A claim that a power failure forgets must not take tasks along.
	if err := syncDirs(made); err != nil {
		return nil, err
	}
	if err := os.Rename(made, c.dir); err != nil {
		return nil, err
	}
	return c, syncDirs(filepath.Dir(c.dir))
}

// lock takes the locks of a claim that is in dir now. It is not ok if a process
// has one of them, or nobody can tell.
func (c *claim) lock(dir string) (ok bool, err error) {
	sure := false
	for _, path := range []string{dir, filepath.Join(dir, lockFile)} {
		mode := os.O_RDWR // as network file systems want it
		if path == dir {
			mode = os.O_RDONLY
		}
		f, err := os.OpenFile(path, mode, 0)
		if path != dir && missing(err) {
			break // removed by a task; then the other one tells
		}
		if err != nil {
			return false, err
		}
		c.locks = append(c.locks, f)
		ok, err := tryLock(f)
		if err == nil && !ok {
			return false, nil
		}
		if err != nil && path != dir {
			return false, err
		}
		// There are file systems that lock no directories.
		sure = sure || err == nil && (path != dir || strings.HasSuffix(dir, bothLocked))
	}
	return sure, nil
}

// unlock drops the locks. A supervisor may have them still.
func (c *claim) unlock() {
	for _, f := range c.locks {
		f.Close()
	}
	c.locks = nil
}

func (c *claim) path(elements ...string) string {
	return filepath.Join(append([]string{c.dir}, elements...)...)
}

// usable says whether the claim is where other runners look for it, with its lock,
// and nothing is left of the last attempt.
func (c *claim) usable() bool {
	if len(c.locks) < 2 || !isAt(c.locks[0], c.dir) || !isAt(c.locks[1], c.path(lockFile)) {
		return false
	}
	left, err := os.ReadDir(c.path(workDir))
	return err == nil && len(left) == 0
}

// destroyed says whether the claim has lost its place for tasks, wherever it is
// now: its task can do that, and then the document is in memory only.
func (c *claim) destroyed() bool {
	if len(c.locks) == 0 {
		return false
	}
	var dir, tasks unix.Stat_t
	at := int(c.locks[0].Fd())
	return unix.Fstat(at, &dir) == nil && (dir.Nlink == 0 || unix.Fstatat(at, tasksDir, &tasks, 0) == unix.ENOENT)
}

// close removes the directory and drops the locks, the latter in any case.
func (c *claim) close() error {
	err := removeClaim(c.spool, c.dir)
	c.unlock()
	return err
}

// removeClaim removes a claim directory whose lock the caller holds. It does
// not if there is a task left in it. The directory leaves claims/ in one step,
// so that no half of it, without a lock, is ever seen there.
func removeClaim(spool, dir string) error {
	if err := os.Remove(filepath.Join(dir, tasksDir)); err != nil && !missing(err) {
		return err
	}
	gone := filepath.Join(spool, tmpDir, gonePrefix+filepath.Base(dir))
	if err := os.Rename(dir, gone); missing(err) {
		return nil
	} else if err != nil {
		return err
	}
	return tree.Remove(gone)
}

// reclaimIfDue calls reclaim, and sweep, if the last time is long enough ago.
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
	if !due {
		return
	}
	s.reclaim()
	s.mu.Lock()
	stale := time.Since(s.swept) > staleAfter/6
	s.mu.Unlock()
	if stale {
		s.sweep()
	}
}

// reclaim gives the tasks of dead runners back. What cannot be done now is
// logged and tried again: it must not keep this runner from its own work.
func (s *Spool) reclaim() {
	for _, place := range []string{heldDir, claimsDir} {
		names, _ := dirNames(s.path(place)) // Fetch reports a spool that cannot be read
		for _, name := range names {
			s.sayOnce("could not take back a claim", name, s.reclaimOne(s.path(place, name), place == claimsDir))
		}
	}
}

// sayOnce logs a problem with something, and not again while it stays the same.
func (s *Spool) sayOnce(what, name string, problem error) {
	text := fmt.Sprint(problem)
	s.mu.Lock()
	news := s.told[name] != text
	if problem == nil {
		delete(s.told, name)
	} else {
		s.told[name] = text
	}
	s.mu.Unlock()
	if problem != nil && news {
		s.log.LogAttrs(context.Background(), slog.LevelWarn, what, slog.String("claim", name), slog.Any("error", problem))
	}
}

func (s *Spool) reclaimOne(dir string, older bool) error {
	c := &claim{spool: s.dir, dir: dir}
	defer c.unlock()
	if ok, err := c.lock(dir); err != nil || !ok {
		if missing(err) {
			return nil // another runner has just removed it
		}
		return err // not ok: a process of it lives, or another runner is doing this
	}
	if !isAt(c.locks[0], dir) {
		return nil // another runner was faster, and is done
	}
	names, err := fileNames(filepath.Join(dir, tasksDir))
	if err != nil && !missing(err) {
		return err
	}
	for _, name := range names {
		if err := s.giveBack(filepath.Join(dir, tasksDir), name, older); err != nil {
			return err
		}
	}
	if len(names) > 0 {
		s.ring()
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
