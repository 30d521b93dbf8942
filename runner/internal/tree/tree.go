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

// NoPoll is a flag to open files and directories with, to which it means nothing. Without
// it package os asks the kernel five times more, to find that it cannot wait for them; with
// it, once.
const NoPoll = unix.O_NONBLOCK

// Sync makes the names in directories durable.
func Sync(dirs ...string) error {
	for _, dir := range dirs {
		d, err := os.OpenFile(dir, os.O_RDONLY|NoPoll, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
	}
	return nil
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
