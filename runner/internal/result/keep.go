package result

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// The directories that a task is given. Two are kept, if there is something in them.
const (
	scratchDir    = "scratch"
	outputsDir    = "outputs"
	checkpointDir = "checkpoint"
)

// NotKept says of one of them, or of an output, why it is not stored.
func NotKept(name string, err error) error {
	if name == outputsDir {
		name = "output directory"
	}
	return fmt.Errorf("its %s is not kept: %w", name, err)
}

// Limits say how much of them is stored, in bytes; below 0, there is no room.
type Limits struct{ Outputs, Checkpoint int64 }

// Outputs is an empty directory for what the task wants to be kept with its result.
func (d *Draft) Outputs() string { return filepath.Join(d.dir, outputsDir) }

// Checkpoint is a directory for what the task leaves to its next attempt.
func (d *Draft) Checkpoint() string { return filepath.Join(d.dir, checkpointDir) }

// Resume has what the attempts before have left copied to where this one finds it.
func (d *Draft) Resume(from func(dir string) error) error {
	if err := from(d.Checkpoint()); err != nil {
		return fmt.Errorf("copy the checkpoint: %w", err)
	}
	entries, err := os.ReadDir(d.Checkpoint())
	d.resumed = len(entries) > 0
	return err
}

// take moves the two directories to what is kept, unless they are empty, as most are.
func (d *Draft) take() (problems error) {
	for _, dir := range []string{outputsDir, checkpointDir} {
		from := filepath.Join(filepath.Base(d.dir), dir)
		info, err := d.work.Lstat(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the task may remove it
		}
		if err == nil && (!info.IsDir() || d.resumed && dir == checkpointDir || d.work.Remove(from) != nil) {
			err = d.work.Rename(from, filepath.Join(filepath.Base(d.kept), dir))
		}
		if err != nil {
			problems = errors.Join(problems, NotKept(dir, err))
		}
	}
	return problems
}

// Say adds to the reason what a task would not expect, once.
func Say(r *api.Result, problem error) {
	if problem != nil && !strings.Contains(r.Reason, problem.Error()) {
		r.Reason = strings.TrimPrefix(r.Reason+"; "+problem.Error(), "; ")
	}
}

// keep makes durable what is stored of the two directories, and removes the rest. An
// empty checkpoint is stored only where the task has removed what it found: without
// any, the last good one stays. An error is what the machine has refused.
func (d *Draft) keep(r *api.Result, limits Limits) error {
	outputs, problem := d.check(outputsDir, limits.Outputs, "--output-limit")
	size, err := d.check(checkpointDir, limits.Checkpoint, "--checkpoint-limit")
	if both := errors.Join(problem, err); refused(both) {
		return both
	}
	if problem != nil || outputs == 0 {
		Say(r, errors.Join(problem, d.out.RemoveAll(outputsDir)))
	}
	if err != nil || size == 0 && !d.resumed || r.Outcome == api.Succeeded {
		Say(r, errors.Join(err, d.out.RemoveAll(checkpointDir)))
	}
	return nil
}

// check makes a directory of the task's durable and returns its size, of which each
// entry is at least a byte. The error says why it cannot be stored.
func (d *Draft) check(dir string, limit int64, flag string) (size int64, err error) {
	top, err := d.out.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // the task may remove it
	}
	if err == nil && !top.IsDir() {
		err = errors.New("it is no directory any more")
	}
	if err == nil {
		err = fs.WalkDir(tree.FS{Root: d.out}, dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			need := fs.FileMode(0o600) // to read it, now and as a checkpoint
			switch info.Mode().Type() {
			case fs.ModeDir:
				need = 0o700
			case 0:
				size += info.Size()
			case fs.ModeSymlink:
				size++
				return nil
			default: // a socket, say, is nothing without its process
				return d.out.Remove(path)
			}
			if path != dir {
				size++
			}
			if size > 0 && limit < 0 {
				return errors.New("the disk is full")
			}
			if size > max(0, limit) {
				return fmt.Errorf("it has more than the %s of %s", api.Amount(limit), flag)
			}
			if mode := info.Mode().Perm(); mode&need != need {
				if err := d.out.Chmod(path, mode|need); err != nil {
					return err
				}
			}
			return d.sync(path)
		})
	}
	if err != nil {
		err = NotKept(dir, err)
	}
	return size, err
}
