// Package tree has what is missing in package os for directories: it makes their names
// durable, and removes what tasks have made.
package tree

import (
	"errors"
	"fmt"
	"io"
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

// FS is what is in a directory, for reading. Unlike that of package os it has names of
// any bytes, as Linux does.
type FS struct{ *os.Root }

// Open implements fs.FS.
func (f FS) Open(name string) (fs.File, error) { return f.OpenFile(name, os.O_RDONLY|NoPoll, 0) }

// ReadLink implements fs.ReadLinkFS, with Lstat of the root.
func (f FS) ReadLink(name string) (string, error) { return f.Readlink(name) }

// Copy copies files, directories and links to a directory, as os.CopyFS does, but for
// names, which may be any bytes, and paths of any length.
func Copy(dir string, from fs.FS) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	to, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	return fs.WalkDir(from, ".", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || path == ".":
			return err
		case e.IsDir():
			return to.Mkdir(path, 0o777)
		case e.Type() == fs.ModeSymlink:
			target, err := fs.ReadLink(from, path)
			if err != nil {
				return err
			}
			return to.Symlink(target, path)
		case e.Type() == 0:
			return copyFile(to, from, path)
		}
		return &fs.PathError{Op: "copy", Path: path, Err: fs.ErrInvalid}
	})
}

func copyFile(to *os.Root, from fs.FS, path string) error {
	in, err := from.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := to.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666|info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
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
