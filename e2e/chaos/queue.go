package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/studioml/studio-go-runner/runner/api"
)

// queue is where the tasks wait.
type queue interface {
	// variable names it to a program, in the environment.
	variable() string
	// empty says whether no task waits or runs.
	empty(ctx context.Context) bool
	// read notes what is in it once all runners have ended: results, dead letters,
	// and what should not be left.
	read(ctx context.Context) error
}

// directory is a spool on a file system of its own.
type directory struct{ *Arena }

// openDirectory makes it, and spool a link to it.
func openDirectory(a *Arena) (directory, error) {
	return directory{a}, errors.Join(a.mkdir("disk/spool"), os.Symlink(a.path("disk/spool"), a.path("spool")))
}

func (d directory) variable() string { return "STUDIOML_SPOOL=" + d.path("spool") }

func (d directory) empty(context.Context) bool {
	for _, pattern := range []string{"ready/*/*", "held/*-*"} {
		if found, err := filepath.Glob(d.path("disk/spool", pattern)); err != nil || len(found) > 0 {
			return false
		}
	}
	return true
}

func (d directory) read(context.Context) error {
	return errors.Join(d.leftBelow("disk/spool/held/*", "disk/spool/work/*", "disk/spool/tmp/*"), d.readResults(), d.readLetters())
}

func (d directory) readResults() error {
	files, err := filepath.Glob(d.path("disk/spool/results/*/*/result.json"))
	for _, path := range files {
		var r api.Result
		if failed := readJSON(path, &r); failed != nil {
			d.left("a result that cannot be read: %v", failed)
			continue
		}
		d.record.Results = append(d.record.Results, r)
	}
	return err
}

func (d directory) readLetters() error {
	return filepath.WalkDir(d.path("disk/spool/dead"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		var letter api.DeadLetter
		if err := readJSON(path, &letter); err != nil || letter.Task == nil {
			d.left("dead letter %s cannot be read, or is of no task: %v", entry.Name(), err)
			return nil
		}
		d.record.Dead[letter.Task.ID] = letter
		return nil
	})
}

func readJSON(path string, into any) error {
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// leftBelow notes what files are left.
func (a *Arena) leftBelow(patterns ...string) error {
	for _, pattern := range patterns {
		found, err := filepath.Glob(a.path(pattern))
		if err != nil {
			return err
		}
		for _, path := range found {
			a.left("%s is left", strings.TrimPrefix(path, a.dir+"/"))
		}
	}
	return nil
}
