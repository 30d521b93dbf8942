package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/result"
)

// documentFile is in the directory of a task's results, from its submit until purge:
// its id is in use for so long.
const documentFile = "task.json"

func (s *Spool) document(id string) string { return s.path(resultsDir, id, documentFile) }

// readDocument returns the document of an id that is in use, and nothing for one
// that is not. The caller holds the lock of the submits.
func (s *Spool) readDocument(id string) ([]byte, error) {
	document, err := readDocument(s.document(id))
	switch {
	case err == nil && json.Valid(document):
		return document, nil
	case err == nil: // a submit of it was interrupted
		return nil, os.Remove(s.document(id))
	case !missing(err):
		return nil, err
	}
	// Runners of before kept none.
	if letter, err := os.ReadFile(s.letter(id)); err == nil {
		var l api.DeadLetter
		if err := json.Unmarshal(letter, &l); err == nil && l.Task != nil {
			return format(l.Task)
		}
	} else if !missing(err) {
		return nil, err
	}
	if len(s.attempts(id)) > 0 {
		return nil, errors.New("id: is in use by a task that has results; choose another id, or leave it out to have one made")
	}
	return nil, nil
}

func (s *Spool) writeDocument(id string, document []byte, durable bool) error {
	path := s.document(id)
	if err := makeDir(filepath.Dir(path)); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	err := createFile(path, document, durable)
	if err != nil {
		os.Remove(filepath.Dir(path)) // if there is nothing else in it
	}
	return err
}

// link makes the document of a task appear under a name in the queue, in one step.
func (s *Spool) link(t *api.Task, name string) error {
	err := os.Link(s.document(t.ID), name)
	if err == nil || errors.Is(err, os.ErrExist) {
		return err
	}
	if _, gone := os.Lstat(filepath.Dir(name)); gone != nil {
		return err
	}
	// There are file systems that have no links, and people who remove results.
	document, err := format(t)
	if err != nil {
		return err
	}
	made := s.path(tmpDir, "link-"+token())
	if err := createFile(made, document, true); err != nil {
		return err
	}
	if err := rename(filepath.Dir(made), filepath.Base(made), filepath.Dir(name), filepath.Base(name)); err != nil {
		os.Remove(made)
		return err
	}
	return nil
}

// succeeded says whether an attempt has the result that ends its task.
func (s *Spool) succeeded(id string, attempt int) (bool, error) {
	r, err := result.New(s.path(resultsDir), nil).Read(id, attempt)
	if missing(err) {
		return false, nil
	}
	return err == nil && r.Outcome == api.Succeeded, err
}

func (s *Spool) lastAttempt(id string) int {
	if all := s.attempts(id); len(all) > 0 {
		return all[len(all)-1]
	}
	return 0
}

// ended says how a task ended that is not in the queue, and nothing of one that
// never was.
func (s *Spool) ended(id string) api.TaskState {
	if there, _ := present(s.path(cancelledDir, id)); there {
		return api.TaskCancelled
	}
	if there, _ := present(s.letter(id)); there {
		return api.TaskDead
	}
	if there, _ := s.succeeded(id, s.lastAttempt(id)); there {
		return api.TaskFinished
	}
	return ""
}

// syncAll makes all of a file system durable, which is faster than many files.
func syncAll(dir string) error {
	d, err := openDir(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync the file system of %s: %w", dir, err)
	}
	return nil
}
