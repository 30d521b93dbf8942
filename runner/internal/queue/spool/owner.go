package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/result"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// Look returns the spool in dir for List, Results and Files only. It makes nothing
// and waits for nobody.
func Look(dir string) *Spool { return &Spool{dir: dir} }

// List implements queue.Store.
func (s *Spool) List(ctx context.Context, ids ...string) ([]api.TaskStatus, error) {
	l, err := list(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list spool %s: %w", s.dir, err)
	}
	all := l.queued(s)
	inQueue := l.ids()
	results, err := dirNames(s.path(resultsDir))
	if err != nil {
		return nil, fmt.Errorf("list spool %s: %w", s.dir, err)
	}
	rest := map[string]bool{}
	for _, id := range slices.Concat(l.dead, l.cancelled, results) {
		if inQueue[id] == "" && (len(ids) == 0 || slices.Contains(ids, id)) {
			rest[id] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(rest)) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if t := s.status(id); t.State != "" {
			all = append(all, t)
		}
	}
	if len(ids) == 0 {
		return all, nil
	}
	all = slices.DeleteFunc(all, func(t api.TaskStatus) bool { return !slices.Contains(ids, t.ID) })
	var unknown []error
	for _, id := range ids {
		i := slices.IndexFunc(all, func(t api.TaskStatus) bool { return t.ID == id })
		if i < 0 {
			unknown = append(unknown, fmt.Errorf("task %s: %w", api.Excerpt(id), queue.ErrUnknown))
		} else if document, err := readDocument(s.document(id)); err == nil {
			_, all[i].Task, _ = parse(entry{id: id}.name(), document)
		}
	}
	return all, errors.Join(unknown...)
}

// queued returns the status of what is in the queue.
func (l *listing) queued(s *Spool) []api.TaskStatus {
	all := make([]api.TaskStatus, 0, len(l.ready)+len(l.claimed))
	for i, e := range l.ready {
		e.Position = i + 1
		all = append(all, e.TaskStatus)
	}
	for _, e := range l.claimed {
		if info, err := os.Stat(s.path(e.Claim, tasksDir)); err == nil { // it came, or was begun, then
			e.Since = info.ModTime().UTC()
		}
		if info, err := os.Stat(s.path(e.Claim, gpusFile)); err == nil && !info.ModTime().Before(e.Since) { // and not of the last one
			gpus, _ := os.ReadFile(s.path(e.Claim, gpusFile))
			e.GPUs = strings.Fields(string(gpus))
		}
		all = append(all, e.TaskStatus)
	}
	return all
}

// status is that of a task which is not in the queue; without a state if it never was.
func (s *Spool) status(id string) api.TaskStatus {
	t := api.TaskStatus{ID: id, State: s.ended(id), Starts: s.lastAttempt(id)}
	at := map[api.TaskState]string{api.TaskDead: s.letter(id), api.TaskCancelled: s.path(cancelledDir, id), api.TaskFinished: s.path(resultsDir, id)}[t.State]
	if info, err := os.Stat(at); err == nil {
		t.Since = info.ModTime().UTC()
	}
	if t.State == api.TaskDead {
		letter := readLetter(at)
		t.Reason, t.Spent, t.Task = letter.Reason, letter.Attempts, letter.Task
	}
	return t
}

// find says where a task is. The caller holds the lock of the submits.
func (s *Spool) find(id string) (state api.TaskState, files []string, err error) {
	if (&api.Task{ID: id, Command: "true"}).Validate() != nil || id == "" {
		return "", nil, queue.ErrUnknown
	}
	l, err := listOnce(s.dir)
	if err != nil {
		return "", nil, err
	}
	for _, e := range l.ready {
		if e.ID == id {
			state, files = api.TaskWaiting, append(files, e.File)
		}
	}
	for _, e := range l.claimed {
		if e.ID == id {
			return api.TaskRunning, nil, nil
		}
	}
	if ended := s.ended(id); ended != "" && (state == "" || ended != api.TaskFinished) {
		state = ended
	}
	if _, unknown := os.Lstat(s.document(id)); state == "" && unknown == nil {
		state = api.TaskCancelled // its submit was interrupted
	}
	if state == "" {
		err = queue.ErrUnknown
	}
	return state, files, err
}

// withdraw takes a task that has ended out of the queue, where nobody came upon it
// yet. It is not in the queue any more if its state is an end.
func (s *Spool) withdraw(id string) (api.TaskState, error) {
	for {
		state, files, err := s.find(id)
		if err != nil || !state.Ended() || len(files) == 0 {
			return state, err
		}
		for _, file := range files {
			if err := remove(s.path(filepath.Dir(file)), filepath.Base(file)); err != nil {
				return "", err
			}
		}
	}
}

// locked runs what an owner asks for a task, among the submits.
func (s *Spool) locked(ctx context.Context, what string, do func() error) error {
	unlock, err := s.lockSubmit(ctx)
	if err == nil {
		defer unlock()
		if err = s.adoptLocked(); err == nil {
			err = do()
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Cancel implements queue.Store. It leaves a mark: whoever has the task, or comes
// upon it, removes it.
func (s *Spool) Cancel(ctx context.Context, id string) error {
	return s.locked(ctx, "cancel task "+api.Excerpt(id), func() error {
		_, err := os.Lstat(s.document(id))
		if ended := s.ended(id); ended != "" || err != nil {
			state, _, err := s.find(id)
			switch {
			case err != nil:
				return err
			case state.Ended():
				return fmt.Errorf("%w: it is %s", queue.ErrEnded, state)
			}
		}
		return s.mark(id)
	})
}

// mark makes a task cancelled, durably.
func (s *Spool) mark(id string) error {
	if err := createFile(s.path(cancelledDir, id), nil, false); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDirs(s.path(cancelledDir))
}

// Again implements queue.Store. What ended the task is removed after it has come
// into the queue, but for the mark of a cancelled one, which would end it again.
func (s *Spool) Again(ctx context.Context, id string) error {
	return s.locked(ctx, "retry task "+api.Excerpt(id), func() error {
		state, err := s.withdraw(id)
		switch {
		case err != nil:
			return err
		case !state.Ended():
			return fmt.Errorf("%w: it is %s", queue.ErrWaits, state)
		}
		document, err := s.readDocument(id)
		if err != nil || document == nil {
			return errors.Join(err, errors.New("its document is not known any more; submit it under another id"))
		}
		_, task, err := parse(entry{id: id}.name(), document)
		if err != nil {
			return err
		}
		if _, err := os.Lstat(s.document(id)); missing(err) {
			if err := s.writeDocument(id, document, true); err != nil {
				return err
			}
		}
		if err := remove(s.path(cancelledDir), id); err != nil {
			return err
		}
		b := &batch{spool: s, ends: map[lane]*laneEnd{}}
		if err := b.enter([]*submitted{{Submitted: queue.Submitted{ID: id}, task: task, entry: entry{starts: s.lastAttempt(id)}}}); err != nil {
			return err
		}
		s.ring()
		return remove(s.path(deadDir), id+".json")
	})
}

// Purge implements queue.Store.
func (s *Spool) Purge(ctx context.Context, before time.Time) (n int, err error) {
	err = s.locked(ctx, "purge", func() error {
		l, err := listOnce(s.dir)
		if err != nil {
			return err
		}
		inQueue := l.ids()
		results, err := dirNames(s.path(resultsDir))
		if err != nil {
			return err
		}
		ids := slices.Concat(results, l.dead, l.cancelled)
		slices.Sort(ids)
		for _, id := range slices.Compact(ids) {
			if inQueue[id] != "" && s.ended(id) == "" || !s.quietSince(id, before) {
				continue
			}
			if inQueue[id] != "" {
				if state, err := s.withdraw(id); err != nil {
					return err
				} else if !state.Ended() {
					continue
				}
			}
			if err := errors.Join(ctx.Err(), s.forget(id)); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}

// quietSince says whether nothing became of a task since then.
func (s *Spool) quietSince(id string, then time.Time) bool {
	for _, trace := range []string{s.path(resultsDir, id), s.letter(id), s.path(cancelledDir, id)} {
		if info, err := os.Lstat(trace); err == nil && !info.ModTime().Before(then) {
			return false
		}
	}
	return true
}

// forget removes what is known of a task.
func (s *Spool) forget(id string) error {
	gone := s.path(tmpDir, gonePrefix+token())
	if err := os.Rename(s.path(resultsDir, id), gone); err != nil && !missing(err) {
		return err
	}
	return errors.Join(unlink(s.path(deadDir), id+".json"), unlink(s.path(cancelledDir), id), tree.Remove(gone))
}

// Results implements queue.Store.
func (s *Spool) Results(_ context.Context, id string) ([]api.Result, error) {
	return result.New(s.path(resultsDir), nil).List(id)
}

// files is a directory that is open.
type files struct {
	fs.FS
	*os.Root
}

// Open is that of the file system.
func (f files) Open(name string) (fs.File, error) { return f.FS.Open(name) }

// Files implements queue.Store.
func (s *Spool) Files(_ context.Context, id string, attempt int) (queue.Files, error) {
	if err := (&api.Task{ID: id, Command: "true"}).Validate(); err != nil || id == "" {
		return nil, fmt.Errorf("files of task %s: %w", api.Excerpt(id), queue.ErrUnknown)
	}
	root, err := os.OpenRoot(result.New(s.path(resultsDir), nil).Path(id, attempt))
	if missing(err) { // not yet, but it may be in the making
		number := strconv.Itoa(attempt)
		making, _ := fs.Glob(os.DirFS(s.dir), path.Join(heldDir, "*", workDir, id+"."+number+".result", number))
		if len(making) > 0 {
			root, err = os.OpenRoot(s.path(making[0]))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("files of attempt %d of task %s: %w", attempt, id, err)
	}
	return files{root.FS(), root}, nil
}
