package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// parseOlder reads the name of a task's file before today's: nanoseconds, starts with
// a million more for each death of a runner, attempts, id.
func parseOlder(text string) (e entry) {
	const death = 1_000_000
	fmt.Sscanf(text, "%d-%d-%d-%s", &e.key, &e.starts, &e.spent, &e.id)
	if text != fmt.Sprintf("%020d-%d-%d-%s", e.key, e.starts, e.spent, e.id) {
		return entry{}
	}
	e.key, e.deaths, e.starts = e.key/1000, e.starts/death, e.starts%death
	return e
}

// reclaimOlder moves what a dead runner of before has claimed to where it put tasks. A
// file in such a claim is locked for as long as it lives.
func (s *Spool) reclaimOlder(dir string) error {
	free, err := ifFree(filepath.Join(dir, "lock"), func(*os.File) error {
		names, err := fileNames(filepath.Join(dir, tasksDir))
		for _, name := range names {
			if err := s.takeBack(filepath.Join(dir, tasksDir, name), name); err != nil {
				return err
			}
			s.log.Info("took a task back from a dead runner", "file", name, "runner", "one of before")
		}
		if err != nil && !missing(err) {
			return err
		}
		return s.discardDir(dir)
	})
	if !free && missing(err) {
		return nil // another runner has just removed it, or nobody can tell
	}
	return err
}

// adopt brings what runners and submits of before have put into tasks/, and what
// people have, into ready/.
func (s *Spool) adopt(ctx context.Context) error {
	if names, err := fileNames(s.path(tasksDir)); err != nil || len(names) == 0 {
		return err
	}
	return s.locked(ctx, "adopt", func(*os.File) error { return nil })
}

// adoptLocked does so for who has the lock.
func (s *Spool) adoptLocked(lock *os.File) error {
	var problems []error
	var all []*entering
	claimed, _ := fs.Glob(os.DirFS(s.dir), path.Join(claimsDir, "*", tasksDir, "*"))
	put, err := fileNames(s.path(tasksDir))
	for i, name := range append(put, claimed...) {
		if i < len(put) {
			name = path.Join(tasksDir, name)
		}
		t, err := s.keep(s.path(name))
		if !missing(err) && !errors.Is(err, errGone) { // one of before was faster
			problems = append(problems, err)
		}
		if t != nil && i < len(put) { // of those that are claimed, the ids are in use
			all = append(all, t)
		}
	}
	problems = append(problems, err, s.enqueue(lock, all))
	if len(all) > 0 {
		problems = append(problems, tree.Sync(s.path(tasksDir)))
	}
	return errors.Join(problems...)
}

// keep makes a document of before known under its id. A start whose end nobody has
// told counts as a death of its runner: then its result is looked for.
func (s *Spool) keep(file string) (*entering, error) {
	e, task, err := readEntry(file)
	var bad *badDocument
	switch {
	case errors.As(err, &bad):
		return nil, s.discard(file, bad)
	case err != nil:
		return nil, err
	}
	if kept := s.document(e.id); !isThere(kept) {
		if err := makeDir(filepath.Dir(kept)); err != nil {
			return nil, err
		}
		if os.Link(file, kept) != nil {
			document, err := format(task)
			if err = errors.Join(err, s.writeDocument(e.id, document, true)); err != nil {
				return nil, err
			}
		}
	}
	if !reflect.DeepEqual(s.task(e.id), task) {
		document, _ := readFile(file, api.MaxTaskBytes)
		return nil, s.discard(file, &badDocument{errors.New("id: is in use by another task; must be another one"), document})
	}
	if e.starts > 0 {
		e.deaths = max(e.deaths, 1)
	}
	return &entering{entry: e, put: func(path string) error {
		if err := rename(file, path); !errors.Is(err, errGone) {
			return err
		}
		return nil
	}}, nil
}

// discard buries a file that is no task, or no other than one that is known, unless
// it was written so recently that somebody may still be copying it.
func (s *Spool) discard(file string, bad *badDocument) error {
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	age := time.Since(info.ModTime())
	if s.runner == "" || age >= 0 && age < s.rescan || filepath.Dir(file) != s.path(tasksDir) {
		return nil // a runner will
	}
	return s.buryFile(file, bad)
}
