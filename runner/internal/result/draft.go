package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// reserve is the room that is kept for result.json from the begin of an attempt.
const reserve = 4 << 10

// Draft is an attempt whose result is not stored yet. Exactly one of Commit
// and Discard ends it.
//
// The task runs in one directory, and its result is made in another, through a
// descriptor that was opened before it started. So what it does to files, by
// mistake or not, leads this process nowhere else.
type Draft struct {
	store  *Store
	task   string
	number int

	dir     string      // what the task has; scratch is in it, so that it is not beside the next one
	before  []seen      // in dir, before the task had it
	kept    string      // what is made for the store, which knows it as <task>/<number>
	out     *os.Root    // kept
	work    *os.Root    // where both are
	first   bool        // the task's directory was made for it
	unused  bool        // what the task had is put away for the next attempt
	renamed bool        // it is in its place, though perhaps not durably
	resumed bool        // it began with the checkpoint of another
	limits  *Limits     // of what is still to be looked at, which the machine has refused so far
	settled *api.Result // what Settle has made of the result
}

// Begin makes the directories of an attempt.
func (s *Store) Begin(task string, attempt int) (*Draft, error) {
	d, err := s.open(task, attempt)
	if err == nil {
		if err = errors.Join(d.makeRoom(), d.prepare()); err != nil {
			err = errors.Join(err, d.Discard())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("begin result of attempt %d of task %s: %w", attempt, api.Excerpt(task), err)
	}
	return d, nil
}

// open names what is of an attempt, whether it is there or not.
func (s *Store) open(task string, attempt int) (*Draft, error) {
	if err := checkID(task); err != nil {
		return nil, err
	}
	if attempt < 1 {
		return nil, errors.New("attempts count from 1")
	}
	work, err := s.work()
	if err != nil {
		return nil, err
	}
	d := &Draft{store: s, task: task, number: attempt, dir: filepath.Join(work, fmt.Sprintf("%s.%d", task, attempt))}
	d.kept = d.dir + ".result"
	d.work, err = os.OpenRoot(work)
	return d, err
}

// prepare makes what is kept, with room for the result.
func (d *Draft) prepare() error {
	err := os.Mkdir(d.kept, dirMode) // no more: a queue that is gone is not made anew
	if err != nil {
		return err
	}
	out, err := os.OpenRoot(d.kept)
	if err != nil {
		return err // and the one of before, which is closed, says so where it is used
	}
	d.out = out
	f, err := d.out.OpenFile(resultFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL|tree.NoPoll, fileMode)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.Fallocate(int(f.Fd()), 0, 0, reserve)
	if err == unix.EOPNOTSUPP {
		_, err = f.Write(make([]byte, reserve))
	}
	return err
}

// room is what the task has: a directory, and empty ones in it.
var room = []string{".", scratchDir, outputsDir, checkpointDir}

// makeRoom makes what the task has, or takes what the last one has left as it was:
// making and removing directories would be a quarter of the cost of a short task.
func (d *Draft) makeRoom() error {
	if unix.Rename(d.nextRoom(), d.dir) == nil {
		if d.before = d.inRoom(); isEmpty(d.before) {
			return nil
		}
		d.before = nil
		if err := tree.Remove(d.dir); err != nil { // another task has been there, or a cleaner of /tmp
			return err
		}
	}
	err := os.Mkdir(d.dir, 0o700)
	for _, dir := range room[1:] {
		err = errors.Join(err, os.Mkdir(filepath.Join(d.dir, dir), dirMode))
	}
	d.before = d.inRoom()
	return err
}

// isEmpty says whether the room has its directories, and nothing in them.
func isEmpty(all []seen) bool {
	for i, dir := range all {
		if i > 0 && dir.entries > 0 || i == 0 && dir.entries != len(room)-1 {
			return false
		}
	}
	return len(all) > 0
}

// nextRoom is what the next attempt may have. It is beside the directory for unfinished
// attempts.
func (d *Draft) nextRoom() string {
	return filepath.Join(filepath.Dir(filepath.Dir(d.dir)), "untouched")
}

// seen is what shows that something was done to a directory. Its last change tells of
// what has no place of its own here: an owner, an access list that files inherit, a flag
// that keeps them. Two changes in one step of a clock look like one, so the rest is
// compared as well.
type seen struct {
	changed unix.Timespec
	mode    uint32
	entries int
}

// inRoom looks at the room, and follows no link; nil is none that can be looked at.
func (d *Draft) inRoom() (all []seen) {
	for i, dir := range room {
		path := filepath.Join(d.dir, dir)
		var s unix.Stat_t
		if unix.Lstat(path, &s) != nil || s.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil
		}
		if d.before != nil && d.before[i].changed == s.Ctim && s.Ctim.Sec+1 < d.before[0].changed.Sec {
			// Not since the room was moved here, by the same clock: it has what it had.
			all = append(all, seen{s.Ctim, s.Mode, d.before[i].entries})
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil
		}
		all = append(all, seen{s.Ctim, s.Mode, len(entries)})
	}
	return all
}

// Stdout is the path for the standard output.
func (d *Draft) Stdout() string { return filepath.Join(d.kept, stdoutFile) }

// Stderr is the path for the standard error output.
func (d *Draft) Stderr() string { return filepath.Join(d.kept, stderrFile) }

// Files is what is kept of it, beside result.json, which is for Commit.
func (d *Draft) Files() *os.Root { return d.out }

// Scratch is an empty directory for the task to run in. It is no part of the
// result.
func (d *Draft) Scratch() string { return filepath.Join(d.dir, scratchDir) }

// Commit stores the result with the output files that are there. When it
// returns nil, all of it is on the disk; when it returns an error, nothing is
// stored or it may be, and Commit may be called again.
func (d *Draft) Commit(r api.Result) error {
	if err := d.commit(r); err != nil {
		return fmt.Errorf("store result of attempt %d of task %s: %w", d.number, d.task, err)
	}
	d.Discard() // what is left of it goes with the claim
	return nil
}

func (d *Draft) commit(r api.Result) error {
	if r.Task != d.task || r.Attempt != d.number {
		return fmt.Errorf("result is of attempt %d of task %s", r.Attempt, api.Excerpt(r.Task))
	}
	place := d.store.Path(d.task, d.number)
	parent := filepath.Dir(place)
	if !d.renamed {
		if err := d.write(r); err != nil {
			return err
		}
		// A directory that is there is empty or makes the rename fail: results
		// are never replaced.
		err := unix.Rename(d.kept, place)
		if err == unix.ENOENT && os.Mkdir(parent, dirMode) == nil {
			d.first = true // a spool has made it with the task
			err = unix.Rename(d.kept, place)
		}
		if err != nil {
			return &os.LinkError{Op: "rename", Old: d.kept, New: place, Err: err}
		}
		d.renamed = true
	}
	if !d.first { // the queue has made the task's directory durable, or another attempt has
		return tree.Sync(parent)
	}
	return tree.Sync(parent, d.store.dir)
}

// write makes everything in the output directory durable, and result.json last.
func (d *Draft) write(r api.Result) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	for _, name := range []string{stdoutFile, stderrFile} {
		if err := d.sync(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	f, err := d.openKept(resultFile, os.O_WRONLY)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	_, err = f.Write(text)
	err = errors.Join(err, f.Truncate(int64(len(text))), f.Sync(), f.Close())
	return errors.Join(err, d.sync("."))
}

// sync makes a file of the output durable. An empty one is so with its directory.
func (d *Draft) sync(name string) error {
	info, err := d.out.Lstat(name)
	if err != nil || info.Size() == 0 {
		return err
	}
	f, err := d.openKept(name, os.O_RDONLY)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// openKept opens a file of the output, whatever mode the task has given it.
func (d *Draft) openKept(name string, flag int) (*os.File, error) {
	open := func() (*os.File, error) { return d.out.OpenFile(name, flag|unix.O_NOFOLLOW|tree.NoPoll, fileMode) }
	f, err := open()
	if errors.Is(err, os.ErrPermission) && d.out.Chmod(name, fileMode) == nil {
		f, err = open()
	}
	return f, err
}

// Discard removes what there is of the attempt, unless it was stored.
func (d *Draft) Discard() error {
	d.work.Close()
	if d.out != nil {
		d.out.Close()
	}
	var problems []error
	if !d.unused {
		problems = append(problems, tree.Remove(d.dir))
	}
	if !d.renamed {
		problems = append(problems, tree.Remove(d.kept))
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("discard attempt %d of task %s: %w", d.number, d.task, err)
	}
	return nil
}
