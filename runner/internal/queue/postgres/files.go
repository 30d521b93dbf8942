package postgres

import (
	"archive/tar"
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
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
	pieces int
	size   int64
}

// Write stores a piece.
func (f *file) Write(data []byte) (int, error) {
	if _, err := one[int](f.queue, queue.ErrLost, "put", f.claim, f.name, f.pieces, data); err != nil {
		return 0, err
	}
	f.pieces++
	f.size += int64(len(data))
	return len(data), nil
}

// add stores what is written to it.
func (f *file) add(write func(io.Writer) error) error {
	to := bufio.NewWriterSize(f, pieceSize)
	err := errors.Join(write(to), to.Flush())
	if err == nil && f.pieces == 0 { // an empty file is one
		_, err = f.Write([]byte{})
	}
	return err
}

// rest copies what of an open file is not stored yet, and closes it.
func (f *file) rest(to io.Writer, from *os.File) error {
	defer from.Close()
	_, err := from.Seek(f.size, io.SeekStart)
	if err == nil {
		_, err = io.Copy(to, from)
	}
	return err
}

// follow stores what has come to the outputs since it was called before.
func (d *delivery) follow() {
	d.storing.Lock()
	defer d.storing.Unlock()
	paths, _ := filepath.Glob(filepath.Join(d.work(), "*.result", "*", "std*"))
	there := make([]string, len(paths))
	for i, path := range paths {
		there[i] = filepath.Base(path)
	}
	for name := range d.files { // parts of an output come and go
		if !slices.Contains(there, name) && !d.ending.Load() {
			if _, err := ask(d.queue, d.queue.pool, pgx.RowTo[string], "drop", d.claim, there); err != nil {
				return
			}
			delete(d.files, name)
		}
	}
	for i, path := range paths {
		f := d.files[there[i]]
		if f == nil {
			f = &file{delivery: d, name: there[i]}
			d.files[f.name] = f
		}
		if from, err := os.Open(path); err == nil && !d.ending.Load() { // or it is gone by now
			f.add(func(to io.Writer) error { return f.rest(to, from) })
		}
	}
}

// keep stores what an attempt has left.
func (d *delivery) keep(made *os.Root) error {
	d.storing.Lock()
	defer d.storing.Unlock()
	for _, name := range []string{api.StdoutFile, api.StderrFile, "outputs", "checkpoint"} {
		info, err := made.Stat(name)
		if errors.Is(err, fs.ErrNotExist) || d.kept {
			continue
		} else if err != nil {
			return err
		}
		f := &file{delivery: d, name: name}
		if info.IsDir() {
			f.name += "/"
			err = f.add(func(to io.Writer) error { return pack(to, made, name) })
		} else {
			err = f.add(func(to io.Writer) error {
				from, err := made.Open(name)
				if err != nil {
					return err
				}
				return f.rest(to, from)
			})
		}
		if err != nil {
			return err
		}
		d.checkpointed = d.checkpointed || f.name == checkpoint
	}
	d.kept = true
	return nil
}

// pack writes a directory as tar.
func pack(to io.Writer, in *os.Root, name string) error {
	dir, err := fs.Sub(in.FS(), name)
	if err != nil {
		return err
	}
	t := tar.NewWriter(to)
	return errors.Join(t.AddFS(dir), t.Close())
}
