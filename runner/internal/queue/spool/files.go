package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

const (
	dirMode  = 0o755
	fileMode = 0o644
)

// errGone means that a file is not there although the queue is: it is not out of reach.
var errGone = errors.New("file is gone")

// rename is atomic, and durable once tree.Sync was called for both directories.
func rename(from, to string) error {
	err := unix.Rename(from, to)
	switch {
	case err == nil:
		return nil
	case missing(err) && isThere(filepath.Dir(to)) && isGone(from): // its directory may be gone as well
		return errGone
	}
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
}

// unlink deletes a file.
func unlink(path string) error {
	err := os.Remove(path)
	if missing(err) && isThere(filepath.Dir(path)) {
		return errGone
	}
	return err
}

// remove deletes a file, durably. One that is gone already is no error.
func remove(path string) error {
	if err := unlink(path); err != nil && !errors.Is(err, errGone) {
		return err
	}
	return tree.Sync(filepath.Dir(path))
}

// syncAll makes all of a file system durable, which is faster than many files.
func syncAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync the file system of %s: %w", dir, err)
	}
	return nil
}

// writeFile creates a file, on the disk if it is to be durable. It never replaces
// one. After an error nothing is left of it.
func writeFile(path string, data []byte, durable bool) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, own(path, f.Chown))
	if err == nil && durable {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(path)
	}
	return err
}

// readFile reads no more than one byte above a limit, and nothing but regular files:
// a named pipe or a link put there by hand must not hang or mislead the runner.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("read %s: not a regular file", path))
	}
	return io.ReadAll(io.LimitReader(f, limit+1))
}

// makeDir makes a directory, unless it is there.
func makeDir(path string) error {
	err := os.Mkdir(path, dirMode)
	if errors.Is(err, os.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	return own(path, func(uid, gid int) error { return os.Lchown(path, uid, gid) })
}

// own gives what root has made to the owner of the directory around it: root may submit
// what the runners of another user take, whatever its umask is.
func own(path string, chown func(uid, gid int) error) error {
	var around unix.Stat_t
	if os.Geteuid() != 0 || unix.Stat(filepath.Dir(path), &around) != nil || around.Uid == 0 {
		return nil
	}
	return chown(int(around.Uid), int(around.Gid))
}

// fileNames lists the regular files of a directory in order. Hidden files are
// left alone: editors and network file systems make them.
func fileNames(dir string) ([]string, error) {
	return names(dir, func(e fs.DirEntry) bool { return e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") })
}

// dirNames lists the directories in a directory, in order.
func dirNames(dir string) ([]string, error) { return names(dir, fs.DirEntry.IsDir) }

func names(dir string, count func(fs.DirEntry) bool) (all []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if count(e) {
			all = append(all, e.Name())
		}
	}
	return all, err
}

// ifFree does something with a lock file if no process has it locked. It does nothing
// if somebody else has just done it, and removed the file. Files are opened
// close-on-exec, so no child process inherits a lock.
func ifFree(path string, do func(lock *os.File) error) (free bool, err error) {
	lock, err := os.OpenFile(path, os.O_RDWR, 0) // as network file systems want it
	if errors.Is(err, os.ErrPermission) {
		lock, err = os.Open(path)
	}
	if err != nil {
		return false, err
	}
	defer lock.Close()
	if free, err = tryLock(lock); err == nil && free && isAt(lock, path) {
		err = do(lock)
	}
	return free, err
}

// newLock makes a file that this process has locked. Others may find it before it is,
// and remove it: then it is made again.
func newLock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(own(path, f.Chown), unix.Flock(int(f.Fd()), unix.LOCK_EX)); err != nil {
			return nil, errors.Join(err, os.Remove(path), f.Close())
		}
		if isAt(f, path) {
			return f, nil
		}
		f.Close()
	}
}

func overwrite(f *os.File, text []byte) error {
	_, err := f.WriteAt(text, 0)
	return errors.Join(err, f.Truncate(int64(len(text))))
}

// tryLock takes the lock of an open file and says whether it could.
func tryLock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil && err != unix.EWOULDBLOCK {
		return false, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
	return err == nil, nil
}

// isAt says whether path still leads to the open file.
func isAt(f *os.File, path string) bool {
	opened, err1 := f.Stat()
	found, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(opened, found)
}

// present says whether there is something at path.
func present(path string) (bool, error) {
	_, err := os.Lstat(path)
	if missing(err) {
		return false, nil
	}
	return err == nil, err
}

func isThere(path string) bool {
	there, _ := present(path)
	return there
}

func isGone(path string) bool {
	there, err := present(path)
	return !there && err == nil
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
