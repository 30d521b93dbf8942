package postgres

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// tail is how far an output that is still written was stored.
type tail struct {
	pieces
	size int64
}

// follow stores what has come to the outputs since it was called before, for those
// who watch the task. The end stores all of them anew.
func (d *delivery) follow() error {
	d.storing.Lock()
	defer d.storing.Unlock()
	found, _ := filepath.Glob(filepath.Join(d.work(), "*.result", "*", "std*"))
	for _, path := range found {
		name := filepath.Base(path)
		if d.tails[name] == nil {
			d.tails[name] = &tail{pieces: pieces{delivery: d, name: name}}
		}
		if d.ending.Load() {
			return nil
		}
		if err := d.tails[name].more(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// more stores what has come to a file.
func (t *tail) more(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		piece, err := io.ReadAll(io.NewSectionReader(f, t.size, pieceSize))
		if err != nil || len(piece) == 0 {
			return err
		}
		if _, err := t.Write(piece); err != nil {
			return err
		}
		t.size += int64(len(piece))
	}
}

// follow does so for all that runs here. What fails is done later, and a lost claim
// is for the renewal to find.
func (q *Queue) follow() (err error) {
	for _, d := range q.holds() {
		if fault := d.follow(); !errors.Is(fault, queue.ErrLost) {
			err = errors.Join(err, fault)
		}
	}
	return err
}
