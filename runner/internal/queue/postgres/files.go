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
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// pieceSize is how much of a file is in one row: much, for few round trips, and
// little enough to be sent in a third of a lease by a slow network.
const pieceSize = 1 << 20

// What is stored of an attempt: plain files, and directories as tar.
var plainFiles, directories = []string{"stdout", "stderr"}, []string{"outputs", checkpoint}

const checkpoint = "checkpoint"

// keep stores what an attempt has left, and says whether a checkpoint is in it.
func (d *delivery) keep(made *os.Root) (checkpointed bool, err error) {
	for _, name := range append(plainFiles, directories...) {
		f, err := made.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return false, err
		}
		to := bufio.NewWriterSize(&pieces{delivery: d, name: name}, pieceSize)
		if slices.Contains(plainFiles, name) {
			_, err = io.Copy(to, f)
		} else if dir, fail := made.OpenRoot(name); fail != nil {
			err = fail
		} else {
			err = errors.Join(pack(to, dir), dir.Close())
		}
		if err := errors.Join(err, to.Flush(), f.Close()); err != nil {
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
	done, err := ask(p.queue, p.queue.pool, pgx.RowTo[int], sqlPut, p.claim, p.name, p.n, data)
	if err == nil && len(done) == 0 {
		err = queue.ErrLost
	}
	if err != nil {
		return 0, err
	}
	p.n++
	return len(data), nil
}

// pack writes directories, files and links as tar. What is nothing of these is left
// out, and so is what may not be read.
func pack(to io.Writer, dir *os.Root) error {
	t := tar.NewWriter(to)
	err := fs.WalkDir(dir.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrPermission) || name == "." && err == nil {
			return nil
		} else if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		link := ""
		var f *os.File
		switch info.Mode().Type() {
		case fs.ModeDir:
		case fs.ModeSymlink:
			link, err = dir.Readlink(name)
		case 0:
			if f, err = dir.Open(name); err == nil {
				defer f.Close()
			}
		default:
			return nil
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil
		} else if err != nil {
			return err
		}
		header, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		header.Name, header.Uname, header.Gname = name, "", ""
		if err := t.WriteHeader(header); err != nil || f == nil {
			return err
		}
		_, err = io.Copy(t, f)
		return err
	})
	return errors.Join(err, t.Close())
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
			var f *os.File
			if f, err = dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode); err == nil {
				_, err = io.Copy(f, t)
				err = errors.Join(err, f.Close())
			}
		}
		if err != nil {
			return err
		}
	}
}

// reader reads the pieces of a file; there may be none.
type reader struct {
	queue       *Queue
	claim, name string
	n           int
	rest        []byte
}

func (r *reader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		found, err := ask(r.queue, r.queue.pool, pgx.RowTo[[]byte], sqlFile, r.claim, r.name, r.n)
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

// files are those of an attempt. Each part is fetched when it is first asked for,
// into a directory that goes with Close.
type files struct {
	*os.Root
	part func(name string) *reader
}

// Files implements queue.Store.
func (q *Queue) Files(_ context.Context, id string, attempt int) (queue.Files, error) {
	claims, err := ask(q, q.pool, pgx.RowTo[string], sqlAttempt, id, attempt)
	if err == nil && len(claims) == 0 {
		err = queue.ErrUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("files of attempt %d of task %s: %w", attempt, api.Excerpt(id), err)
	}
	dir, err := os.MkdirTemp("", "runner-files-*")
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	return &files{root, func(name string) *reader { return &reader{queue: q, claim: claims[0], name: name} }}, err
}

// Open implements fs.FS.
func (f *files) Open(name string) (fs.File, error) {
	first, _, _ := strings.Cut(name, "/")
	for _, part := range append(plainFiles, directories...) {
		if name != "." && first != part {
			continue
		}
		if err := f.fetch(part); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
	}
	return f.FS().Open(name)
}

func (f *files) fetch(part string) error {
	if slices.Contains(plainFiles, part) {
		file, err := f.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = io.Copy(file, f.part(part))
		return errors.Join(err, file.Close())
	}
	if err := f.Mkdir(part, 0o755); err != nil {
		return err
	}
	dir, err := f.OpenRoot(part)
	if err != nil {
		return err
	}
	return errors.Join(unpack(f.part(part), dir), dir.Close())
}

// Close implements io.Closer.
func (f *files) Close() error { return errors.Join(f.Root.Close(), tree.Remove(f.Name())) }
