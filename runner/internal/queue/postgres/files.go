package postgres

import (
	"archive/tar"
	"bufio"
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

// pieceSize is how much of a file is in one row: much, for few round trips, and
// little enough to be sent in a third of a lease through a slow network.
const pieceSize = 1 << 20

// What is stored of an attempt has the names that it has in its directory; those of
// directories, which are stored as tar, end with a slash.
const checkpoint = "checkpoint/"

// keep stores what an attempt has left, and says whether a checkpoint is in it.
func (d *delivery) keep(made *os.Root) (checkpointed bool, err error) {
	d.storing.Lock()
	defer d.storing.Unlock()
	for _, name := range []string{"stdout", "stderr", "outputs/", checkpoint} {
		f, err := made.Open(path.Clean(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return false, err
		}
		stored := &pieces{delivery: d, name: name}
		to := bufio.NewWriterSize(stored, pieceSize)
		if strings.HasSuffix(name, "/") {
			err = pack(to, made, name)
		} else {
			_, err = io.Copy(to, f)
		}
		err = errors.Join(err, to.Flush(), f.Close())
		if err == nil && stored.n == 0 { // an empty file is one
			_, err = stored.Write([]byte{})
		}
		if err != nil {
			return false, err
		}
		checkpointed = checkpointed || name == checkpoint
	}
	return checkpointed, nil
}

// pieces stores each write as a piece of a file.
type pieces struct {
	*delivery
	name string
	n    int
}

func (p *pieces) Write(data []byte) (int, error) {
	done, err := ask(p.queue, p.queue.pool, pgx.RowTo[int], "put", p.claim, p.name, p.n, data)
	if err == nil && len(done) == 0 {
		err = queue.ErrLost
	}
	if err != nil {
		return 0, err
	}
	p.n++
	return len(data), nil
}

// pack writes a directory as tar.
func pack(to io.Writer, in *os.Root, name string) error {
	dir, err := in.OpenRoot(path.Clean(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	t := tar.NewWriter(to)
	return errors.Join(t.AddFS(dir.FS()), t.Close())
}

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
	n           int
	rest        []byte
}

func (r *reader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		found, err := ask(r.queue, r.queue.pool, pgx.RowTo[[]byte], "file", r.claim, r.name, r.n)
		if err == nil && len(found) == 0 {
			err = io.EOF
		}
		if err != nil {
			return 0, err
		}
		r.rest, r.n = found[0], r.n+1
	}
	n := copy(p, r.rest)
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
	type stored struct{ Claim, Name string }
	names, err := ask(q, q.pool, pgx.RowToStructByPos[stored], "names", id, attempt)
	if err == nil && len(names) == 0 {
		err = fs.ErrNotExist
	}
	var dir string
	if err == nil {
		dir, err = os.MkdirTemp("", "runner-files-*")
	}
	if err != nil {
		return nil, fmt.Errorf("files of attempt %d of task %s: %w", attempt, id, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	f := &files{root, make(map[string]*reader)}
	for _, s := range names {
		from := &reader{queue: q, claim: s.Claim, name: s.Name}
		switch name := path.Clean(s.Name); {
		case s.Name == "":
		case name != s.Name:
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
