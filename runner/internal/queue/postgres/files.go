package postgres

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/result"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// pieceSize is how much of a file is in one row: much, for few round trips, and
// little enough to be sent in a third of a lease through a slow network.
const pieceSize = 1 << 20

// What is stored of an attempt has the names that it has in its directory; those of
// directories, which are stored as tar, end with a slash.
const checkpoint = "checkpoint/"

// file is one that is stored, as far as it is.
type file struct {
	*delivery
	name   string
	early  bool // stored before the end, and no more once that is told
	pieces int
	size   int64
}

var errEnding = errors.New("the attempt ends")

// Write stores a piece.
func (f *file) Write(data []byte) (int, error) {
	if f.early && f.ending.Load() {
		return 0, errEnding
	}
	if _, err := one[int](f.queue, queue.ErrLost, "put", f.claim, f.name, f.pieces, data); err != nil {
		return 0, err
	}
	f.pieces++
	f.size += int64(len(data))
	return len(data), nil
}

// store stores what is written to it.
func (f *file) store(write func(io.Writer) error) error {
	to := bufio.NewWriterSize(f, pieceSize)
	err := errors.Join(write(to), to.Flush())
	if err == nil && f.pieces == 0 { // an empty file is one
		_, err = f.Write([]byte{})
	}
	return err
}

// add stores what is in an open file behind what is stored already, and closes it.
func (f *file) add(from *os.File) error {
	defer from.Close()
	if _, err := from.Seek(f.size, io.SeekStart); err != nil {
		return err
	}
	return f.store(func(to io.Writer) error { _, err := io.Copy(to, from); return err })
}

// follow stores what has come to the outputs since it was called before. Parts of an
// output come and go. What fails is done the next time.
func (d *delivery) follow() {
	d.storing.Lock()
	defer d.storing.Unlock()
	there := []string{}
	kept, err := d.openKept()
	var entries []fs.DirEntry
	if err == nil {
		defer kept.Close()
		entries, err = fs.ReadDir(tree.FS{Root: kept}, ".")
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, "std") || !e.Type().IsRegular() || d.ending.Load() {
			continue
		}
		there = append(there, name)
		if d.files[name] == nil {
			d.files[name] = &file{delivery: d, name: name, early: true}
		}
		// A pipe that has come in its place by now is not waited for, and has no end to seek.
		if from, err := kept.OpenFile(name, os.O_RDONLY|tree.NoPoll, 0); err == nil { // or it is gone
			d.files[name].add(from)
		}
	}
	if len(there) < len(d.files) && !d.ending.Load() {
		if _, err := ask(d.queue, d.queue.pool, pgx.RowTo[string], "drop", d.claim, there); err == nil {
			maps.DeleteFunc(d.files, func(name string, _ *file) bool { return !slices.Contains(there, name) })
		}
	}
}

// openKept opens what is kept of the attempt so far. Its task can exchange it for a link,
// which leads nowhere outside of what this runner has at work.
func (d *delivery) openKept() (*os.Root, error) {
	all, err := os.OpenRoot(d.queue.Work)
	if err != nil {
		return nil, err
	}
	defer all.Close()
	entries, err := fs.ReadDir(tree.FS{Root: all}, d.claim)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".result") {
			return all.OpenRoot(filepath.Join(d.claim, e.Name()))
		}
	}
	return nil, fs.ErrNotExist
}

// keep stores what an attempt has left, if anything, once nothing else is on its way.
// What cannot be read is not waited for: then nothing is stored of that.
func (d *delivery) keep(made *result.Draft) error {
	d.storing.Lock()
	defer d.storing.Unlock()
	if made == nil || made.Files() == nil || d.kept {
		return nil
	}
	var stored []string
	var problems error
	for _, name := range []string{api.StdoutFile, api.StderrFile, "outputs", "checkpoint"} {
		f := &file{delivery: d, name: name}
		switch there, err := f.keep(made.Files()); {
		case err != nil && passes(err):
			return err
		case err != nil:
			problems = errors.Join(problems, result.NotKept(name, err))
		case there:
			stored = append(stored, f.name)
		}
	}
	if problems != nil {
		if _, err := ask(d.queue, d.queue.pool, pgx.RowTo[string], "drop", d.claim, stored); err != nil {
			return err
		}
	}
	d.kept, d.unkept, d.checkpointed = true, problems, slices.Contains(stored, checkpoint)
	return nil
}

// keep stores a file or directory, if it is there.
func (f *file) keep(in *os.Root) (there bool, err error) {
	info, err := in.Stat(f.name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return true, err
	}
	if info.IsDir() {
		dir, err := in.OpenRoot(f.name)
		if err != nil {
			return true, err
		}
		defer dir.Close()
		f.name += "/"
		return true, f.store(func(to io.Writer) error { return pack(to, dir) })
	}
	from, err := in.OpenFile(f.name, os.O_RDONLY|tree.NoPoll, 0)
	if err != nil {
		return true, err
	}
	return true, f.add(from)
}

// passes says whether an error is the server's, or one of a moment, so that another try
// may do without.
func passes(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return errors.Is(err, queue.ErrAway) || errors.Is(err, queue.ErrLost) || ok && (errno.Temporary() || errno == syscall.ENOMEM)
}

// pack writes a directory as tar.
func pack(to io.Writer, dir *os.Root) error {
	t := tar.NewWriter(to)
	if err := t.AddFS(tree.FS{Root: dir}); err != nil {
		return err
	}
	return t.Close()
}

// unpack makes what pack has written in a directory of in, and nothing outside it.
func unpack(from io.Reader, in *os.Root, name string) error {
	dir, err := in.OpenRoot(name)
	if err != nil {
		return err
	}
	defer dir.Close()
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
	if err == nil {
		defer root.Close()
		err = unpack(&reader{queue: d.queue, claim: d.before, name: checkpoint}, root, ".")
	}
	if err != nil {
		return fmt.Errorf("read the checkpoint of task %s: %w", d.id, err)
	}
	return nil
}

// files are those of an attempt, in a directory that goes with Close. Directories of
// it are fetched when something in them is asked for.
type files struct {
	tree.FS
	later map[string]*reader // what was not fetched
}

// Files implements queue.Store.
func (q *Queue) Files(_ context.Context, id string, attempt int) (_ queue.Files, err error) {
	type stored struct{ Claim, Name string }
	names, err := ask(q, q.pool, pgx.RowToStructByPos[stored], "names", id, attempt)
	if err == nil && len(names) == 0 {
		err = fs.ErrNotExist
	}
	f := &files{later: make(map[string]*reader)}
	dir := ""
	if err == nil {
		dir, err = os.MkdirTemp("", "runner-files-*")
	}
	if err == nil {
		f.Root, err = os.OpenRoot(dir)
	}
	for _, s := range names {
		from := &reader{queue: q, claim: s.Claim, name: s.Name}
		switch name, isDir := strings.CutSuffix(s.Name, "/"); {
		case err != nil || name == "": // it has left nothing
		case isDir:
			f.later[name], err = from, f.Mkdir(name, 0o755)
		default:
			err = write(from, f.Root, name, 0o644)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("files of attempt %d of task %s: %w", attempt, api.Excerpt(id), err), tree.Remove(dir))
	}
	return f, nil
}

// Open implements fs.FS.
func (f *files) Open(name string) (fs.File, error) {
	first, _, _ := strings.Cut(name, "/")
	if from := f.later[first]; from != nil {
		delete(f.later, first)
		if err := unpack(from, f.Root, first); err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
	}
	return f.FS.Open(name)
}

// Close implements io.Closer.
func (f *files) Close() error { return errors.Join(f.Root.Close(), tree.Remove(f.Name())) }
