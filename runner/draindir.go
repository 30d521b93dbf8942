package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// drainDirs are the names of the directories in which runners show a drain.
const drainDirs = "studio-go-runner-drain-*"

// drainDir makes such a directory, and removes those of runners that have died. The
// runner holds a lock on it until remove is called.
func drainDir() (dir string, remove func() error, err error) {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), drainDirs))
	for _, dir := range left {
		if f, err := os.Open(dir); err == nil {
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				tree.Remove(dir) // another user's stays
			}
			f.Close()
		}
	}
	dir, err = os.MkdirTemp("", drainDirs)
	if err != nil {
		return "", nil, fmt.Errorf("make directory for the drain file: %w; set TMPDIR", err)
	}
	lock, err := os.Open(dir)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	return dir, func() error {
		defer lock.Close()
		return tree.Remove(dir)
	}, err
}
