package gpu

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockAgain is how soon a device that another process had is tried again.
const lockAgain = time.Second

// locks keep the devices of one machine apart among processes that know nothing of
// each other: a file for each device in a directory that they share, locked while
// a task has it. A supervisor that outlives its runner has the lock still.
type locks struct {
	dir       string
	log       *slog.Logger
	held      map[string]*os.File // by UUID
	elsewhere map[string]bool     // another process has these
	failed    bool                // there are no locks, and that was said
}

// LockIn makes the pool lock each device that it gives away in a directory.
func (p *Pool) LockIn(dir string, log *slog.Logger) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.locks = locks{dir: dir, log: log, held: make(map[string]*os.File), elsewhere: make(map[string]bool)}
}

// Locks returns the locks of devices that were reserved.
func (p *Pool) Locks(uuids []string) (files []*os.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, uuid := range uuids {
		if f := p.locks.held[uuid]; f != nil {
			files = append(files, f)
		}
	}
	return files
}

// lock takes all of these locks, or none. It must be called with p.mu held, as the
// rest.
func (p *Pool) lock(devices []Device) bool {
	if p.locks.dir == "" {
		return true
	}
	for i, d := range devices {
		f, err := lockFile(p.locks.dir, d.UUID)
		switch {
		case err == nil:
			p.locks.held[d.UUID] = f
		case errors.Is(err, unix.EWOULDBLOCK):
			p.locks.elsewhere[d.UUID] = true
			time.AfterFunc(lockAgain, func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				delete(p.locks.elsewhere, d.UUID)
				p.change()
			})
			for _, taken := range devices[:i] {
				p.unlock(taken.UUID)
			}
			return false
		case !p.locks.failed:
			p.locks.failed = true
			p.locks.log.Warn("GPUs cannot be locked, so another runner on this machine may use them at the same time; "+
				"set --gpu-lock to a directory that all of them may write, or to off", "error", err)
		}
	}
	return true
}

func (p *Pool) unlock(uuid string) {
	if f := p.locks.held[uuid]; f != nil {
		f.Close()
		delete(p.locks.held, uuid)
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
		f, err := os.Open(path)
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
