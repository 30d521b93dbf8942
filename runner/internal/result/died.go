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
	a, err := s.open(r.Task, r.Attempt)
	if err != nil {
		return err
	}
	defer a.work.Close()
	if a.out, err = os.OpenRoot(a.kept); err != nil {
		return err
	}
	defer func() { a.out.Close() }() // it may be another by then
	if !a.intact(true) {
		err = a.renew()
	}
	if err = errors.Join(err, a.out.RemoveAll(outputsDir), a.out.RemoveAll(checkpointDir)); err == nil {
		err = a.lastSign(&r)
	}
	if err != nil {
		return err
	}
	return a.Commit(r)
}

// lastSign takes the times of an attempt from its files, of which the one for the result
// was made first, and makes them durable: its outputs may be in parts still.
func (a *Attempt) lastSign(r *api.Result) error {
	files, err := fs.ReadDir(a.out.FS(), ".")
	for _, f := range files {
		info, fault := f.Info()
		if err = errors.Join(err, fault, a.sync(f.Name())); err != nil {
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
