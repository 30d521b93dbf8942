package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	kjson "sigs.k8s.io/json"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/result"
)

// document is where that of a task is from its submit until purge: its id is in use
// for so long.
func (s *Spool) document(id string) string { return s.path(resultsDir, id, "task.json") }

// parse reads the document of a task. It is stricter than api.ParseTask, which
// is for what people write: only JSON, because YAML forbids some characters
// that a task's arguments may hold, and only under the task's own name, so
// that a copy made by hand is not run as if it had been submitted.
func parse(id string, document []byte) (*api.Task, error) {
	if len(document) > api.MaxTaskBytes {
		return nil, fmt.Errorf("task document has more than the %d bytes that are allowed", api.MaxTaskBytes)
	}
	var task api.Task
	strict, err := kjson.UnmarshalStrict(document, &task)
	if err == nil {
		err = append(strict, task.Validate())[0]
	}
	if err == nil && task.ID != id {
		err = fmt.Errorf("id: is %s; must be %s as in its file's name", api.Excerpt(task.ID), api.Excerpt(id))
	}
	if err != nil {
		return nil, fmt.Errorf("task document: %w", err)
	}
	return &task, nil
}

// format writes the document of a task, in the form that parse reads.
func format(task *api.Task) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // for people who look into the directory
	err := encoder.Encode(task)
	return text.Bytes(), err
}

// newer says whether what is no task to this version may be one to a newer version.
func newer(id string, document []byte) bool {
	var fields struct{ ID string }
	return json.Unmarshal(document, &fields) == nil && fields.ID == id
}

// readDocument returns the document of an id that is in use, and nothing for one
// that is not. The caller holds the lock of the submits.
func (s *Spool) readDocument(id string) ([]byte, error) {
	document, err := readFile(s.document(id), api.MaxTaskBytes)
	switch {
	case err == nil && json.Valid(document):
		return document, nil
	case err == nil: // a submit of it was interrupted
		return nil, os.Remove(s.document(id))
	case !missing(err):
		return nil, err
	}
	if n, err := s.lastAttempt(id); err != nil {
		return nil, err
	} else if n > 0 {
		return nil, errors.New("id: is in use by a task that has results; choose another id, or leave it out to have one made")
	}
	return nil, nil
}

// task reads the document of a task, nil if it is not known.
func (s *Spool) task(id string) *api.Task {
	document, _ := readFile(s.document(id), api.MaxTaskBytes)
	task, _ := parse(id, document)
	return task
}

func (s *Spool) writeDocument(id string, document []byte, durable bool) error {
	path := s.document(id)
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	err := writeFile(path, document, durable)
	if err != nil {
		os.Remove(filepath.Dir(path)) // if there is nothing else in it
	}
	return err
}

// link makes the document of a task appear under a name in the queue, in one step.
func (s *Spool) link(t *api.Task, path string) error {
	err := os.Link(s.document(t.ID), path)
	if errors.Is(err, os.ErrExist) { // the word that it did was lost
		return nil
	}
	if err == nil || !isThere(filepath.Dir(path)) {
		return err
	}
	// There are file systems that have no links, and people who remove results.
	document, err := format(t)
	if err != nil {
		return err
	}
	return s.put(document, path)
}

// put makes a file appear with its contents, durably but for its name.
func (s *Spool) put(data []byte, path string) error {
	made := s.path(tmpDir, "made-"+token())
	err := writeFile(made, data, true)
	if err == nil {
		if err = rename(made, path); err != nil {
			os.Remove(made)
		}
	}
	return err
}

func (s *Spool) results() *result.Store { return result.New(s.path(resultsDir), nil) }

// succeeded says whether an attempt has the result that ends its task.
func (s *Spool) succeeded(id string, attempt int) (bool, error) {
	r, err := s.results().Read(id, attempt)
	if missing(err) {
		return false, nil
	}
	return err == nil && r.Outcome == api.Succeeded, err
}

// finished says whether the last attempt of a task has such a result.
func (s *Spool) finished(id string) (bool, error) {
	last, err := s.lastAttempt(id)
	if err != nil {
		return false, err
	}
	return s.succeeded(id, last)
}

// lastAttempt is the number of the last attempt that has a result, 0 if none has.
func (s *Spool) lastAttempt(id string) (int, error) {
	attempts, err := s.results().Attempts(id)
	return slices.Max(append(attempts, 0)), err
}
