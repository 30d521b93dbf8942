package spool

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/result"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// gonePrefix begins the names of what in tmp/ is being removed.
const gonePrefix = "gone-"

// claim is a lock in held/ that this process holds, with at most one task, so that an
// attempt that cannot be ended keeps no other task from other runners. What is of it
// has its name: the lock, the task's file, and a directory for the attempt.
type claim struct {
	name string
	lock *os.File
	said string // in the lock, for people: whose it is, and on what GPUs the attempt runs
}

// token makes a name that no other process makes.
func token() string { return strings.ToLower(rand.Text())[:16] }

const lockSuffix = ".lock"

func (s *Spool) lockPath(claim string) string { return s.path(heldDir, claim+lockSuffix) }

// heldPath is where the file of an entry is while it is claimed.
func (s *Spool) heldPath(claim string, e entry) string { return s.path(heldDir, claim+"-"+e.name()) }

// parseHeld reads the name of a file that is claimed.
func parseHeld(name string) (claim string, e entry, ok bool) {
	claim, name, _ = strings.Cut(name, "-")
	e, ok = parseName(name)
	return claim, e, ok
}

// workPath is where attempts are made. What they leave beside it goes with the claim.
func (s *Spool) workPath(claim string) string { return s.path(workDir, claim, "attempt") }

// newClaim makes a claim.
func (s *Spool) newClaim() (*claim, error) {
	name := token()
	lock, err := newLock(s.lockPath(name))
	if err != nil {
		return nil, err
	}
	c := &claim{name: name, lock: lock}
	c.say(s.runner, nil)
	if err := errors.Join(s.makeWork(c.name), tree.Sync(s.path(heldDir))); err != nil {
		return nil, errors.Join(err, s.closeClaim(c))
	}
	return c, nil
}

// makeWork makes the place for attempts, and no spool around it: one that is out of
// reach could not come back to where it was.
func (s *Spool) makeWork(claim string) error {
	return cmp.Or(makeDir(s.path(workDir)), makeDir(s.path(workDir, claim)), makeDir(s.workPath(claim)))
}

// say writes for people. There may be no room for it, and that must keep nobody.
func (c *claim) say(runner string, gpus []string) {
	text := strings.Join(append([]string{runner}, gpus...), "\n") + "\n"
	if text != c.said && overwrite(c.lock, []byte(text)) == nil {
		c.said = text
	}
}

// said returns what the lock of a claim says; nothing if it cannot be read.
func (s *Spool) said(claim string) (runner string, gpus []string) {
	text, _ := readFile(s.lockPath(claim), 1<<16)
	words := strings.Split(strings.TrimSpace(string(text)), "\n")
	return words[0], words[1:]
}

// usable says whether others see that the claim is locked, and nothing is left of the
// last attempt.
func (s *Spool) usable(c *claim) bool {
	left, err := os.ReadDir(s.workPath(c.name))
	return err == nil && len(left) == 0 && isAt(c.lock, s.lockPath(c.name))
}

// closeClaim removes a claim that has no task, and leaves what is in its directory, which
// may be large, to the sweep.
func (s *Spool) closeClaim(c *claim) error {
	defer c.lock.Close()
	if err := s.throwAway(s.path(workDir, c.name)); err != nil {
		return err
	}
	if isAt(c.lock, s.lockPath(c.name)) {
		return os.Remove(s.lockPath(c.name))
	}
	return nil
}

// mostIdle is above the number of tasks that a runner has at a time.
const mostIdle = 10_000

// takeClaim returns a claim that holds no task.
func (s *Spool) takeClaim() (*claim, error) {
	if s.runner == "" {
		return nil, errors.New("spool was opened without the name of a runner")
	}
	for {
		select {
		case c := <-s.idle:
			if s.usable(c) {
				return c, nil
			}
			if !isAt(c.lock, s.lockPath(c.name)) { // somebody removed it, or exchanged the whole spool
				s.log.Warn("a claim is gone, made a new one", "old", c.lock.Name())
			}
			s.sayOnce("could not remove a claim", c.name, s.closeClaim(c))
		default:
			return s.newClaim()
		}
	}
}

// reclaim gives the tasks of dead runners back. What cannot be done now is
// logged and tried again: it must not keep this runner from its own work.
func (s *Spool) reclaim() {
	names, _ := fileNames(s.path(heldDir)) // Fetch reports a spool that cannot be read
	for _, name := range names {
		if claim, isLock := strings.CutSuffix(name, lockSuffix); isLock {
			s.sayOnce("could not take back a claim", claim, s.reclaimOne(claim))
			continue
		}
		if claim, e, ok := parseHeld(name); ok && !isThere(s.lockPath(claim)) && isThere(s.path(heldDir, name)) {
			s.sayOnce("could not take back a task", name, fmt.Errorf("somebody has removed its lock, so nobody can tell whether a runner has it; "+
				"if none has, move it to %s", s.path(readyDir, e.bucket.name(), e.name())))
		}
	}
}

func (s *Spool) reclaimOne(name string) error {
	_, err := ifFree(s.lockPath(name), func(lock *os.File) error {
		names, err := fileNames(s.path(heldDir))
		if err != nil {
			return err
		}
		runner, gpus := s.said(name)
		for _, file := range names {
			if !strings.HasPrefix(file, name+"-") {
				continue
			}
			_, e, ok := parseHeld(file)
			if !ok { // without the lock nobody could tell any more whether a runner has it
				return fmt.Errorf("%s has no name that this version knows, so it is left to a newer runner", file)
			}
			s.sayOnce("could not store how an attempt ended", file, s.died(name, e, runner, gpus))
			back := func(dir string) error { return rename(s.path(heldDir, file), filepath.Join(dir, e.name())) }
			if err := s.enter(e.bucket, back); err != nil {
				return err
			}
			s.ring()
			s.log.Info("took a task back from a dead runner", "task", e.id, "dead_runner", runner)
		}
		return s.closeClaim(&claim{name: name, lock: lock})
	})
	if missing(err) {
		return nil // another runner has just removed it
	}
	return err
}

// died stores the result of an attempt that a dead runner had begun, if it had. It comes
// before the task waits again, and where it cannot be stored it keeps no task.
func (s *Spool) died(claim string, e entry, runner string, gpus []string) error {
	if e.starts == 0 {
		return nil
	}
	err := result.New(s.path(resultsDir), func() (string, error) { return s.workPath(claim), nil }).Died(api.Result{
		Task: e.id, Attempt: e.starts, Outcome: api.MachineFailed, ExitCode: -1, Reason: queue.NoSign, Runner: runner, GPUs: gpus})
	if missing(err) || errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// sayOnce logs a problem with something, and not again while it stays the same.
func (s *Spool) sayOnce(what, name string, problem error) {
	text := fmt.Sprint(problem)
	s.mu.Lock()
	news := s.told[name] != text
	if s.told[name] = text; problem == nil {
		delete(s.told, name)
	}
	s.mu.Unlock()
	if problem != nil && news {
		s.log.Warn(what, "claim", name, "error", problem)
	}
}

// throwAway has a directory removed, in one step.
func (s *Spool) throwAway(dir string) error {
	err := rename(dir, s.path(tmpDir, gonePrefix+token()))
	if errors.Is(err, errGone) {
		return nil
	}
	s.askSweep()
	return err
}

// sweeping sweeps at first, and whenever it is asked to, until the spool is closed. It is
// beside all else: what a task has left may take minutes.
func (s *Spool) sweeping() {
	for {
		s.sweep(s.open)
		select {
		case <-s.open.Done():
			return
		case <-s.litter:
		}
	}
}

// askSweep asks for a sweep, unless one is asked for.
func (s *Spool) askSweep() {
	select {
	case s.litter <- struct{}{}:
	default:
	}
}

// sweep removes what processes that died have left in tmp/, and what is not removed yet,
// until ctx ends.
func (s *Spool) sweep(ctx context.Context) {
	entries, _ := os.ReadDir(s.path(tmpDir)) // the next one tries again
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) <= staleAfter && !strings.HasPrefix(e.Name(), gonePrefix) {
			continue
		}
		err = tree.RemoveUntil(ctx, s.path(tmpDir, e.Name()))
		if ctx.Err() != nil {
			return
		}
		s.sayOnce("could not remove what is left of an attempt", e.Name(), err)
	}
}
