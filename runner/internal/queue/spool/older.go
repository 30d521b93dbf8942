package spool

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// adopt brings what runners and submits of before have put into tasks/, and what
// people have, into the lanes.
func (s *Spool) adopt(ctx context.Context) error {
	if names, err := fileNames(s.path(tasksDir)); err != nil || len(names) == 0 {
		return err
	}
	unlock, err := s.lockSubmit(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return s.adoptLocked()
}

// adoptLocked does so for who has the lock of the submits.
func (s *Spool) adoptLocked() error {
	claims, err := dirNames(s.path(claimsDir))
	problems := []error{err}
	for _, claim := range claims { // their ids are in use
		dir := s.path(claimsDir, claim, tasksDir)
		names, err := fileNames(dir)
		for _, name := range names {
			if e, task, _ := readEntry(dir, name); task != nil {
				problems = append(problems, s.keep(dir, name, e.id))
			}
		}
		if !missing(err) {
			problems = append(problems, err)
		}
	}
	names, err := fileNames(s.path(tasksDir))
	problems = append(problems, err)
	for _, name := range names {
		if err := s.adoptOne(name); !missing(err) && !errors.Is(err, errGone) { // one of before was faster
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

func (s *Spool) adoptOne(name string) error {
	e, task, err := readEntry(s.path(tasksDir), name)
	var bad *badDocument
	if errors.As(err, &bad) {
		return s.discard(name, bad)
	}
	if err == nil {
		err = s.keep(s.path(tasksDir), name, e.id)
	}
	if err != nil {
		return err
	}
	if there, err := readDocument(s.document(e.id)); err != nil {
		return err
	} else if _, other, _ := parse(entry{id: e.id}.name(), there); !reflect.DeepEqual(other, task) {
		return s.discard(name, errors.New("id: is in use by another task; must be another one"))
	}
	if finished, err := s.succeeded(e.id, e.starts); err != nil {
		return err
	} else if finished { // and its runner could not say so any more
		s.removed(slog.LevelInfo, e.id, "it was finished before")
		return remove(s.path(tasksDir), name)
	}
	b, err := laneOf(task).place(s, e.key)
	if err != nil {
		return err
	}
	return errors.Join(s.enter(laneOf(task), b, func(dir string) error { return rename(s.path(tasksDir), name, dir, name) }),
		syncDirs(s.path(tasksDir)))
}

// keep makes a document known under its id, unless one is.
func (s *Spool) keep(dir, name, id string) error {
	if _, err := os.Lstat(s.document(id)); err == nil {
		return nil
	}
	document, err := readDocument(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	return s.writeDocument(id, document, true)
}

// discard buries a file that is no task, or no other than one that is known, unless
// it was written so recently that somebody may still be copying it.
func (s *Spool) discard(name string, bad error) error {
	info, err := os.Lstat(s.path(tasksDir, name))
	if err != nil {
		return err
	}
	if age := time.Since(info.ModTime()); age >= 0 && age < s.rescan {
		return nil
	}
	if s.runner == "" {
		return nil // a runner will
	}
	c, err := s.takeClaim()
	if err != nil {
		return err
	}
	defer s.dropClaim(c)
	if err := rename(s.path(tasksDir), name, c.path(tasksDir), name); err != nil {
		return err
	}
	// It may have been exchanged since it was read.
	if _, _, now := readEntry(c.path(tasksDir), name); now == nil && errors.As(bad, new(*badDocument)) {
		return s.putBack(c, name)
	}
	if err := s.buryUnreadable(c, name, bad); err != nil {
		return errors.Join(err, s.putBack(c, name))
	}
	return nil
}

// giveBack moves what a dead runner has left in its claim to where it came from.
func (s *Spool) giveBack(dir, name string, older bool) error {
	e, task, err := readEntry(dir, name)
	if older || errors.As(err, new(*badDocument)) {
		err = rename(dir, name, s.path(tasksDir), name)
		if err == nil {
			err = syncDirs(s.path(tasksDir), dir)
		}
	} else if err == nil {
		var b bucket
		if b, err = laneOf(task).place(s, e.key); err == nil {
			err = s.enter(laneOf(task), b, func(to string) error { return rename(dir, name, to, name) })
		}
	}
	if err == nil {
		s.log.LogAttrs(context.Background(), slog.LevelInfo, "took a task back from a dead runner",
			slog.String("file", api.Excerpt(name)), slog.String("runner", readOwner(filepath.Dir(dir))))
	}
	return err
}
