package postgres

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// unpack makes what pack has written in dir, and nothing outside it.
func unpack(from io.Reader, dir *os.Root) error {
	for t := tar.NewReader(from); ; {
		header, err := t.Next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		name, mode := path.Clean(header.Name), header.FileInfo().Mode().Perm()
		switch header.Typeflag {
		case tar.TypeDir:
			err = dir.MkdirAll(name, mode|0o700)
		case tar.TypeSymlink:
			err = dir.Symlink(header.Linkname, name)
		case tar.TypeReg:
			err = write(t, dir, name, mode)
		}
		if err != nil {
			return err
		}
	}
}

// write makes a file.
func write(from io.Reader, in *os.Root, name string, mode fs.FileMode) error {
	f, err := in.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
}

// reader reads the pieces of a file.
type reader struct {
	queue       *Queue
	claim, name string
	piece       int
	rest        []byte
}

func (r *reader) Read(p []byte) (n int, err error) {
	for ; len(r.rest) == 0; r.piece++ {
		if r.rest, err = one[[]byte](r.queue, io.EOF, "file", r.claim, r.name, r.piece); err != nil {
			return 0, err
		}
	}
	n = copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Checkpoint implements queue.Delivery.
func (d *delivery) Checkpoint(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := unpack(&reader{queue: d.queue, claim: d.before, name: checkpoint}, root); err != nil {
		return fmt.Errorf("read the checkpoint of task %s: %w", d.id, err)
	}
	return nil
}

// files are those of an attempt, in a directory that goes with Close. Directories of
// it are fetched when something in them is asked for.
type files struct {
	*os.Root
	later map[string]*reader // what was not fetched
}

// Files implements queue.Store.
func (q *Queue) Files(_ context.Context, id string, attempt int) (queue.Files, error) {
	f, err := q.files(id, attempt)
	if err != nil {
		return nil, fmt.Errorf("files of attempt %d of task %s: %w", attempt, id, err)
	}
	return f, nil
}

func (q *Queue) files(id string, attempt int) (*files, error) {
	type stored struct{ Claim, Name string }
	names, err := ask(q, q.pool, pgx.RowToStructByPos[stored], "names", id, attempt)
	if err == nil && len(names) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "runner-files-*")
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	f := &files{root, make(map[string]*reader)}
	for _, s := range names {
		from := &reader{queue: q, claim: s.Claim, name: s.Name}
		switch name, isDir := strings.CutSuffix(s.Name, "/"); {
		case name == "": // it has left nothing
		case isDir:
			f.later[name] = from
			err = errors.Join(err, f.Mkdir(name, 0o755))
		default:
			err = errors.Join(err, write(from, f.Root, name, 0o644))
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Open implements fs.FS.
func (f *files) Open(name string) (fs.File, error) {
	first, _, _ := strings.Cut(name, "/")
	if from := f.later[first]; from != nil {
		delete(f.later, first)
		dir, err := f.OpenRoot(first)
		if err == nil {
			err = errors.Join(unpack(from, dir), dir.Close())
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
	}
	return f.FS().Open(name)
}

// Close implements io.Closer.
func (f *files) Close() error { return errors.Join(f.Root.Close(), tree.Remove(f.Name())) }
