package spool

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	dirMode  = 0o755
	fileMode = 0o644
)

// errGone means that a file is not there although its directory is. Opening
// the directory first is what tells this from a queue that is unreachable.
var errGone = errors.New("file is gone")

func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
}

// rename moves a file between two directories, which may be the same. It is
// atomic, and durable once syncDirs was called for both.
func rename(from, name, to, newName string) error {
	if err := unix.Rename(filepath.Join(from, name), filepath.Join(to, newName)); err == nil {
		return nil
	}
	source, err := openDir(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := openDir(to)
	if err != nil {
		return err
	}
	defer target.Close()
	err = unix.Renameat(int(source.Fd()), name, int(target.Fd()), newName)
	if err == nil {
		return nil
	}
	// ENOENT may mean the target as well, if it was removed just now.
	var stat unix.Stat_t
	if unix.Fstatat(int(source.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW) == unix.ENOENT {
		return errGone
	}
	return &os.LinkError{Op: "rename", Old: filepath.Join(from, name), New: filepath.Join(to, newName), Err: err}
}

// unlink deletes a file. One that is gone already is no error.
func unlink(dir, name string) error {
	if err := unix.Unlink(filepath.Join(dir, name)); err == nil {
		return nil
	}
	d, err := openDir(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Unlinkat(int(d.Fd()), name, 0); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "unlink", Path: filepath.Join(dir, name), Err: err}
	}
	return nil
}

// remove deletes a file and makes that durable.
func remove(dir, name string) error {
	if err := unlink(dir, name); err != nil {
		return err
	}
	return syncDirs(dir)
}

// syncDirs makes the names in the directories durable.
func syncDirs(dirs ...string) error {
	for _, dir := range dirs {
		d, err := openDir(dir)
		if err != nil {
			return err
		}
		err = d.Sync()
		d.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// writeFile creates a file with its contents on the disk. It never replaces
// one. After an error nothing is left of it.
func writeFile(path string, data []byte) error { return createFile(path, data, true) }

// createFile does so, and leaves it to others to make the file durable if need be.
func createFile(path string, data []byte, durable bool) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && durable {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}

// makeDir makes a directory whose owner is that of the one around it: root may submit
// what the runners of another user take.
func makeDir(path string) error {
	if err := os.Mkdir(path, dirMode); err != nil || os.Geteuid() != 0 {
		return err
	}
	var around unix.Stat_t
	if err := unix.Stat(filepath.Dir(path), &around); err != nil {
		return err
	}
	return os.Lchown(path, int(around.Uid), int(around.Gid))
}

// fileNames lists the regular files of a directory in order. Hidden files are
// left alone: editors and network file systems make them.
func fileNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, nil // ReadDir sorts
}

// dirNames lists the directories in a directory, in order.
func dirNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// tryLock takes the lock of an open file and says whether it could. Files are
// opened close-on-exec, so no child process inherits the lock.
func tryLock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch err {
	case nil:
		return true, nil
	case unix.EWOULDBLOCK:
		return false, nil
	}
	return false, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
}

// isAt says whether path still leads to the open file.
func isAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	found, err := os.Stat(path)
	return err == nil && os.SameFile(opened, found)
}

// present says whether there is something at path.
func present(path string) (bool, error) {
	_, err := os.Lstat(path)
	if missing(err) {
		return false, nil
	}
	return err == nil, err
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
