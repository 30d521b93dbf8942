package gpu

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// lockAgain is how soon a device that another process had is tried again.
const lockAgain = time.Second

// LockIn makes the pool lock each device that it gives away: a file in a directory
// that processes share which know nothing of each other. A supervisor that outlives
// its runner has the lock still.
func (p *Pool) LockIn(dir string, log *slog.Logger) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lockDir, p.log = dir, log
}

// Locks returns the locks of devices that were reserved.
func (p *Pool) Locks(uuids []string) (files []*os.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.devices {
		if d.lock != nil && slices.Contains(uuids, d.UUID) {
			files = append(files, d.lock)
		}
	}
	return files
}

// lock takes all of these locks, or none.
func (p *Pool) lock(devices []*pooled) bool {
	if p.lockDir == "" {
		return true
	}
	for i, d := range devices {
		var err error
		switch d.lock, err = lockFile(p.lockDir, d.UUID); {
		case momentary(err):
			if !errors.Is(err, unix.EWOULDBLOCK) {
				p.notNow.Do(func() {
					p.log.Warn("a GPU cannot be locked now, so nobody gets it; trying again every second", "gpu", d.UUID, "error", err)
				})
			}
			d.elsewhere = true
			time.AfterFunc(lockAgain, func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				d.elsewhere = false
				p.change()
			})
			for _, taken := range devices[:i] {
				taken.unlock()
			}
			return false
		case err != nil:
			p.unlocked.Do(func() {
				p.log.Warn("GPUs cannot be locked, so another runner on this machine may use them at the same time; "+
					"set --gpu-lock to a directory that all of them may write, or to off", "error", err)
			})
		}
	}
	return true
}

// momentary says of an error whether a lock may be had later: another process has it, or
// the machine has nothing left now for one more file.
func momentary(err error) bool {
	return slices.ContainsFunc([]error{unix.EWOULDBLOCK, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOLCK, unix.ENOSPC, unix.EDQUOT},
		func(one error) bool { return errors.Is(err, one) })
}

func (d *pooled) unlock() {
	if d.lock != nil {
		d.lock.Close()
		d.lock = nil
	}
}

// lockFile opens the file of a device, which may be another user's, and locks it.
func lockFile(dir, uuid string) (*os.File, error) {
	const everybody = 0o777 | os.ModeSticky
	if err := os.Mkdir(dir, everybody); err == nil {
		os.Chmod(dir, everybody) // against the umask
	}
	path := filepath.Join(dir, uuid)
	for {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
		if errors.Is(err, os.ErrNotExist) {
			f, err = os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o644)
		}
		if errors.Is(err, os.ErrExist) {
			continue // made meanwhile
		}
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, err
		}
		opened, err1 := f.Stat()
		found, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(opened, found) {
			return f, nil
		}
		f.Close() // removed meanwhile, as by a cleaner of /tmp
	}
}
