package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// drainDirs are the names of the directories in which runners show a drain.
const drainDirs = "studio-go-runner-drain-*"

// sweepDrainDirs removes those of runners that have died. Attempts may be in them, which
// take long to remove.
func sweepDrainDirs(ctx context.Context) error {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), drainDirs))
	for _, dir := range left {
		if f, err := os.Open(dir); err == nil {
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				tree.RemoveUntil(ctx, dir) // another user's stays
			}
			f.Close()
		}
	}
	return nil
}

// drainDir makes such a directory. The runner holds a lock on it until remove is called,
// which leaves to the next runner what takes long. One that another runner has swept before
// it was locked is made anew: in its place nothing would be safe from the next one.
func drainDir() (dir string, remove func() error, err error) {
	var lock *os.File
	for lock == nil {
		if dir, err = os.MkdirTemp("", drainDirs); err != nil {
			return "", nil, fmt.Errorf("make directory for the drain file: %w; set TMPDIR", err)
		}
		if lock, err = lockDir(dir); err != nil {
			return "", nil, fmt.Errorf("lock directory of the drain file: %w; set TMPDIR", err)
		}
	}
	return dir, func() error {
		defer lock.Close()
		ctx, cancel := context.WithTimeout(context.Background(), lifecycle.DirsEnd)
		defer cancel()
		if err := tree.RemoveUntil(ctx, dir); ctx.Err() == nil {
			return err
		}
		return nil
	}, nil
}

// lockDir locks a directory, and returns nothing if that was removed before.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err == nil {
		_, err = os.Lstat(dir)
	}
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return nil, err
}
