package result

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// ErrNoRoom says that an attempt failed on a file system that was full, and not of
// what the task itself had put into its directory.
var ErrNoRoom = errors.New("there is no room left where the queue is, and it was not the task that took it")

// Close is called when no process of the attempt is left. It removes the task's
// directory, and changes the result where the task has damaged what is kept, or left
// more than is stored. left says what could not be removed. What the machine has nothing
// left for now, a descriptor say, is left to Settle.
func (d *Draft) Close(r *api.Result, limits Limits) (left, err error) {
	if left, err = d.close(r, limits); refused(err) {
		d.limits, err = &limits, nil
	}
	return left, err
}

// Settle ends what Close could not, and may change the result as that does. It comes before
// Commit, or before Files are stored otherwise, and may be called again after an error, and
// with the result as it was before: what was found of it once stays so.
func (d *Draft) Settle(r *api.Result) error {
	if d.settled != nil {
		*r = *d.settled
	}
	if d.limits == nil {
		return nil
	}
	_, err := d.close(r, *d.limits)
	d.settled = new(*r)
	if err == nil {
		d.limits = nil
	}
	return err
}

// refused says whether the machine had nothing left to look at something with, which is no
// word about it.
func refused(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

func (d *Draft) close(r *api.Result, limits Limits) (left, err error) {
	full := r.Outcome == api.Failed && d.full()
	same := !d.resumed && d.before != nil && slices.Equal(d.inRoom(), d.before)
	if !same {
		if err := d.take(); refused(err) {
			return nil, err
		} else {
			Say(r, err)
		}
	}
	d.unused = same && unix.Rename(d.dir, d.nextRoom()) == nil
	if !d.unused {
		left = tree.Remove(d.dir)
	}
	if full && d.full() {
		if err := d.keep(r, Limits{-1, -1}); err != nil { // they may be what took the room
			return left, err
		}
		if d.full() {
			return left, ErrNoRoom
		}
	}
	if !same {
		if err := d.keep(r, limits); err != nil {
			return left, err
		}
	}
	parts, intact, err := d.intact()
	for _, name := range parts { // which the writer of an output could not remove
		_ = d.out.Remove(name) // or it is stored with the result
	}
	if intact || err != nil {
		return left, err
	}
	if _, err := os.Lstat(d.store.dir); err != nil {
		return left, nil // the queue is out of reach: Commit says so until it is back
	}
	if r.Outcome != api.Interrupted {
		r.Outcome = api.Failed
	}
	r.Reason = "it removed or changed what the runner keeps of it, so its output is lost"
	return left, d.renew()
}

// renew makes what is kept anew.
func (d *Draft) renew() error {
	d.out.Close()
	err := errors.Join(tree.Remove(d.kept), os.MkdirAll(filepath.Dir(d.kept), dirMode)) // the task may have removed that, too
	if err == nil {
		err = d.prepare()
	}
	return err
}

// full says whether nothing can be written any more.
func (d *Draft) full() bool {
	const least = 64 << 10
	var s unix.Statfs_t
	err := unix.Statfs(filepath.Dir(d.dir), &s)
	return err == nil && (s.Bavail*uint64(s.Bsize) < least || s.Files > 0 && s.Ffree == 0)
}

// leads says whether a path leads to an open directory.
func leads(path string, to *os.Root) bool {
	opened, err1 := to.Stat(".")
	found, err2 := os.Lstat(path)
	return err1 == nil && err2 == nil && os.SameFile(opened, found)
}

// intact says whether what is kept is at its place, and is what was made there. If
// the whole queue is out of reach, which is not the task's doing, nobody can tell. Its
// outputs may be in parts still if their writer has died, or could not remove them.
func (d *Draft) intact() (parts []string, ok bool, err error) {
	if !leads(d.kept, d.out) {
		info, err := d.work.Stat(".")
		return nil, !leads(filepath.Dir(d.dir), d.work) && err == nil && info.Sys().(*syscall.Stat_t).Nlink > 0, nil
	}
	entries, err := os.ReadDir(d.kept)
	if refused(err) {
		return nil, false, err
	}
	result := false
	for _, e := range entries {
		name := e.Name()
		if isPart(name) {
			parts, name = append(parts, name), stdoutFile
		}
		switch name {
		case outputsDir, checkpointDir: // keep has seen to them
		case resultFile, stdoutFile, stderrFile:
			if !e.Type().IsRegular() {
				return nil, false, nil
			}
			result = result || name == resultFile
		default:
			return nil, false, nil
		}
	}
	return parts, err == nil && result, nil
}
