package result

import (
	"errors"
	"io/fs"
	"os"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Died stores the result of an attempt whose runner, and all that was started for it,
// has died, with what it had printed. Its outputs and its checkpoint may be half
// written, and are not kept. ErrNotExist says that there is nothing of it: it was
// stored before, or given back, or has not begun.
func (s *Store) Died(r api.Result) error {
	d, err := s.open(r.Task, r.Attempt)
	if err != nil {
		return err
	}
	defer d.work.Close()
	if d.out, err = os.OpenRoot(d.kept); err != nil {
		return err
	}
	defer func() { d.out.Close() }() // it may be another by then
	_, intact, err := d.intact()
	if err == nil && !intact {
		err = d.renew()
	}
	if err = errors.Join(err, d.out.RemoveAll(outputsDir), d.out.RemoveAll(checkpointDir)); err == nil {
		err = d.lastSign(&r)
	}
	if err != nil {
		return err
	}
	return d.Commit(r)
}

// lastSign takes the times of an attempt from its files, of which the one for the result
// was made first, and makes them durable: its outputs may be in parts still.
func (d *Draft) lastSign(r *api.Result) error {
	files, err := fs.ReadDir(d.out.FS(), ".")
	for _, f := range files {
		info, fault := f.Info()
		if err = errors.Join(err, fault, d.sync(f.Name())); err != nil {
			return err
		}
		when := info.ModTime().UTC()
		if f.Name() == resultFile {
			r.Started = when
		}
		if when.After(r.Finished) {
			r.Finished = when
		}
	}
	return err
}

// isPart says whether a file is a part of an output.
func isPart(name string) bool {
	_, _, out := api.ParseOutputPart(stdoutFile, name)
	_, _, errOut := api.ParseOutputPart(stderrFile, name)
	return out || errOut
}
