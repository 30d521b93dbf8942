package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// A submit holds the lock for milliseconds. Who waits this long has met a
// process that was stopped in the middle of it.
const (
	submitWait = 10 * time.Second
	submitPoll = 5 * time.Millisecond
)

// Submit puts a task at the end of the queue and returns its ID, which is made
// up when the task has none. When Submit returns nil the task is on the disk.
// An ID that the queue or the results know already is refused, so that a
// submit can be repeated without running the task twice.
func (s *Spool) Submit(task *api.Task) (id string, err error) {
	id, err = s.submit(*task)
	switch {
	case err == nil:
		return id, nil
	case task.ID == "":
		return "", fmt.Errorf("submit task: %w", err)
	}
	return "", fmt.Errorf("submit task %s: %w", api.Excerpt(task.ID), err)
}

func (s *Spool) submit(task api.Task) (string, error) {
	if err := task.Validate(); err != nil {
		return "", err
	}
	unlock, err := s.lockSubmit()
	if err != nil {
		return "", err
	}
	defer unlock()

	wanted := task.ID
	if wanted == "" {
		task.ID = token() // 80 random bits
	}
	last, where, err := s.lookup(task.ID)
	if err != nil {
		return "", err
	}
	if where != "" {
		return "", fmt.Errorf("id: is in use, the task is %s; choose another id, or leave it out to have one made", where)
	}
	document, err := format(&task)
	if err != nil {
		return "", err
	}
	e := entry{key: max(time.Now().UnixNano(), last+1), id: task.ID}
	// What Fetch would not read must not get in.
	if _, _, err := parse(e.name(), document); err != nil {
		return "", err
	}
	made := "submit-" + token()
	if err := writeFile(s.path(tmpDir, made), document); err != nil {
		return "", err
	}
	if err := rename(s.path(tmpDir), made, s.path(tasksDir), e.name()); err != nil {
		os.Remove(s.path(tmpDir, made))
		return "", err
	}
	return task.ID, syncDirs(s.path(tasksDir))
}

// lockSubmit keeps other submitters out, so that of two with the same ID one
// is refused, and keys grow in the order of the submits.
func (s *Spool) lockSubmit() (unlock func(), err error) {
	lock, err := os.OpenFile(s.path(submitLock), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(submitWait); ; time.Sleep(submitPoll) {
		ok, err := tryLock(lock)
		if ok {
			return func() { lock.Close() }, nil
		}
		if err == nil && time.Now().After(deadline) {
			err = fmt.Errorf("lock %s: another process has held it for %s; find it with fuser", lock.Name(), submitWait)
		}
		if err != nil {
			lock.Close()
			return nil, err
		}
	}
}

// lookup returns the last key of the queue, and where the task with this ID
// is, empty for nowhere. The places are read in the order in which a task
// passes them, so that one which moves on meanwhile is not missed; the first
// two are read twice for those that move back.
func (s *Spool) lookup(id string) (last int64, where string, err error) {
	look := func(dir, place string) error {
		names, err := fileNames(dir)
		for _, name := range names {
			if e, err := parseName(name); err == nil {
				last = max(last, e.key)
				if e.id == id {
					where = place
				}
			}
		}
		return err
	}
	for range 2 {
		if err := look(s.path(tasksDir), "in the queue"); err != nil {
			return 0, "", err
		}
		claims, err := os.ReadDir(s.path(claimsDir))
		if err != nil {
			return 0, "", err
		}
		for _, c := range claims {
			dir := s.path(claimsDir, c.Name())
			if err := look(filepath.Join(dir, tasksDir), "with runner "+readOwner(dir)); err != nil && !missing(err) {
				return 0, "", err
			}
		}
	}
	for place, path := range map[string]string{
		"in the dead-letter place": s.path(deadDir, id+".json"),
		"one that has results":     s.path(resultsDir, id),
	} {
		if _, err := os.Lstat(path); err == nil {
			where = place
		} else if !missing(err) {
			return 0, "", err
		}
	}
	return last, where, nil
}

// lastKey is the key of the last task that waits in the queue. It is 0 when
// the queue is empty.
func (s *Spool) lastKey() (int64, error) {
	names, err := fileNames(s.path(tasksDir))
	if err != nil {
		return 0, err
	}
	for i := len(names) - 1; i >= 0; i-- {
		if e, err := parseName(names[i]); err == nil {
			return e.key, nil
		}
	}
	return 0, nil
}

// errSettled is what a delivery answers after the call that ended it.
var errSettled = errors.New("it was settled before")
