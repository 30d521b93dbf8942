package fakegpu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// patience is how long a writer waits for another one before it says so.
const patience = time.Second

// Waiting is called when a change has to wait for another writer; the command
// says so.
var Waiting = func(dir string) {}

// locked runs do while no other writer changes the directory.
func locked(dir string, do func() error) error {
	for {
		lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o644)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w; make it with fakegpu create", err)
		}
		if err != nil {
			return err
		}
		if err := take(lock, dir); err != nil {
			lock.Close()
			return fmt.Errorf("lock %s: %w", lock.Name(), err)
		}
		if !current(lock) { // the directory was replaced while this writer waited
			lock.Close()
			continue
		}
		defer lock.Close() // which gives the lock back
		return do()
	}
}

// take waits for the lock for as long as it takes.
func take(lock *os.File, dir string) error {
	told := time.AfterFunc(patience, func() { Waiting(dir) })
	defer told.Stop()
	for {
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// current reports whether a lock is still the file of its name.
func current(lock *os.File) bool {
	named, err := os.Stat(lock.Name())
	if err != nil {
		return false
	}
	held, err := lock.Stat()
	return err == nil && os.SameFile(named, held)
}
