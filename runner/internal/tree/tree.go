// Package tree has what is missing in package os for directories: it makes their names
// durable, and removes what tasks have made.
package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Sync makes the names in directories durable. A file of package os would cost more
// than all the rest.
func Sync(dirs ...string) error {
	for _, dir := range dirs {
		f := -1
		err := again(func() (err error) {
			f, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			return err
		})
		if err == nil {
			err = errors.Join(again(func() error { return unix.Fsync(f) }), unix.Close(f))
		}
		if err != nil {
			return &fs.PathError{Op: "sync", Path: dir, Err: err}
		}
	}
	return nil
}

// again does what a signal may interrupt.
func again(do func() error) (err error) {
	for err = do(); err == unix.EINTR; err = do() {
	}
	return err
}

// Remove removes a directory with all that is in it, also where its modes forbid
// that, as Go's module cache does. It follows no link. What it cannot remove, as
// the files of another user, stays, and the error says what.
func Remove(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(path, 0o700) // before it is read
		}
		return nil
	})
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("%w; remove it as the user who owns it", err)
	}
	return nil
}
