package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// Look returns the spool in dir for List, Results and Files only. It makes nothing
// and waits for nobody.
func Look(dir string) *Spool { return &Spool{dir: dir} }

// Length says how many tasks wait, and how many are dead letters, by the names alone.
func (s *Spool) Length(context.Context) (map[api.TaskState]int, error) {
	buckets, err1 := s.buckets()
	dead, err2 := fileNames(s.path(deadDir))
	waiting, err := 0, errors.Join(err1, err2)
	for _, b := range buckets {
		names, problem := fileNames(s.path(readyDir, b.name()))
		if !missing(problem) { // else it has just gone
			err = errors.Join(err, problem)
		}
		for _, name := range names {
			if _, ok := parseName(name); ok {
				waiting++
			}
		}
	}
	return map[api.TaskState]int{api.TaskWaiting: waiting, api.TaskDead: len(dead)}, err
}

// List implements queue.Store.
func (s *Spool) List(ctx context.Context, ids ...string) ([]api.TaskStatus, error) {
	v := s.look()
	named := len(ids) > 0
	if !named {
		v.readAll()
		known := v.named(resultsDir, deadDir, cancelledDir)
		for id := range v.entries {
			known[id] = true
		}
		ids = slices.Sorted(maps.Keys(known))
	}
	if v.err != nil {
		return nil, fmt.Errorf("list spool %s: %w", s.dir, v.err)
	}
	all, unknown := []api.TaskStatus{}, []error{}
	for _, id := range ids {
		t, err := v.status(id)
		if err = cmp.Or(err, v.err, ctx.Err()); err != nil {
			return nil, fmt.Errorf("list spool %s: %w", s.dir, err)
		}
		if named {
			t.Task = cmp.Or(t.Task, s.task(id))
		}
		if t.State != "" {
			all = append(all, t)
		} else if named {
			unknown = append(unknown, fmt.Errorf("task %s: %w", api.Excerpt(id), queue.ErrUnknown))
		}
	}
	order := []api.TaskState{api.TaskWaiting, api.TaskRunning}
	slices.SortStableFunc(all, func(a, b api.TaskStatus) int {
		i, j := slices.Index(order, a.State), slices.Index(order, b.State)
		return cmp.Or(cmp.Compare(uint(i), uint(j)), cmp.Compare(a.Position, b.Position))
	})
	return all, errors.Join(unknown...)
}

// status is what List says of a task.
func (v *view) status(id string) (api.TaskStatus, error) {
	s := v.spool
	state, err := v.state(id)
	if err == nil && (state == api.TaskWaiting || state == api.TaskDead && !isThere(s.letter(id))) {
		v.readAll() // what has expired may have no letter yet
	}
	if e, ok := v.entries[id]; ok && e.State == state {
		if state == api.TaskDead {
			e.Task = s.task(id)
		}
		return e.TaskStatus, err
	}
	starts, unseen := s.lastAttempt(id)
	t, err := api.TaskStatus{ID: id, State: state, Starts: starts}, errors.Join(err, unseen)
	letter := s.letter(id)
	if !isThere(letter) {
		letter = s.oldLetter(id)
	}
	at := map[api.TaskState]string{api.TaskDead: letter, api.TaskCancelled: s.mark(id), api.TaskFinished: s.path(resultsDir, id)}[state]
	if info, err := os.Stat(at); err == nil {
		t.Since = info.ModTime().UTC()
	}
	if state == api.TaskDead {
		letter := readLetter(at)
		t.Reason, t.Spent, t.Task = letter.Reason, letter.Attempts, letter.Task
	}
	return t, err
}

// Cancel implements queue.Store. It leaves a mark: whoever has the task, or comes
// upon it, removes it.
func (s *Spool) Cancel(ctx context.Context, id string) error {
	return s.locked(ctx, "cancel task "+api.Excerpt(id), func(*os.File) error {
		switch state, err := s.look().state(id); {
		case err != nil:
			return err
		case state == "" && !s.submitted(id):
			return queue.ErrUnknown
		case state != "" && state.Ended():
			return fmt.Errorf("%w: it is %s", queue.ErrEnded, state)
		}
		return s.cancel(id)
	})
}

// mark is the file that says that a task was cancelled.
func (s *Spool) mark(id string) string { return s.path(cancelledDir, id) }

// cancel makes a task cancelled, durably.
func (s *Spool) cancel(id string) error {
	if err := writeFile(s.mark(id), nil, false); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return tree.Sync(s.path(cancelledDir))
}

// Again implements queue.Store. Before the task can be taken, the end that it had is put
// away, so that nothing is removed of the end that it comes to next, and so that one whose
// submitter is killed meanwhile has an end. Older versions left the letter where it was:
// whoever fetches a task that has one, and was not started since, removes that.
func (s *Spool) Again(ctx context.Context, id string) error {
	return s.locked(ctx, "retry task "+api.Excerpt(id), func(lock *os.File) error {
		if err := s.withdraw(id); err != nil {
			return err
		}
		document, err := s.readDocument(id)
		if err != nil || document == nil {
			return errors.Join(err, errors.New("its document is not known any more; submit it under another id"))
		}
		task, err := parse(id, document)
		if err != nil {
			return err
		}
		if isThere(s.mark(id)) {
			letter := api.DeadLetter{Task: task, Reason: "it was cancelled, and a retry was interrupted"}
			err := s.writeLetter(id, letter)
			if err == nil { // else it would have no end at all
				err = remove(s.mark(id))
			}
			if err != nil {
				return err
			}
		}
		if err := s.putAway(id); err != nil {
			return err
		}
		starts, err := s.lastAttempt(id)
		if err != nil {
			return err
		}
		return s.enqueue(lock, &entering{entry: entry{starts: starts}.of(task), task: task})
	})
}

// withdraw takes a task that has ended out of the queue, where nobody came upon it
// yet. It is an error if it has not ended.
func (s *Spool) withdraw(id string) error {
	for {
		v := s.look()
		held := v.entries[id].File != ""
		state, err := v.state(id)
		if err == nil && state != api.TaskFinished && (state == api.TaskCancelled || s.links(id) > 1) {
			v.readAll()
			err = v.err
		}
		e := v.entries[id]
		switch {
		case err != nil:
			return err
		case state == "" && !s.submitted(id):
			return queue.ErrUnknown
		case e.State == api.TaskRunning || state != "" && !state.Ended():
			return fmt.Errorf("%w: it is %s", queue.ErrWaits, cmp.Or(e.State, state))
		case e.File == "" && held: // it may be on its way back from a runner that has died
			continue
		case e.File == "":
			return nil
		}
		if err := remove(s.path(e.File)); err != nil {
			return err
		}
	}
}

// submitted says whether the submit of a task has begun, and perhaps was interrupted.
func (s *Spool) submitted(id string) bool { return validID(id) && isThere(s.document(id)) }

// Purge implements queue.Store.
func (s *Spool) Purge(ctx context.Context, before time.Time) (n int, err error) {
	err = s.locked(ctx, "purge", func(*os.File) error {
		v := s.look()
		v.readAll()
		for id := range v.named(resultsDir, deadDir, cancelledDir) {
			state, err := v.state(id)
			if err = cmp.Or(err, v.err, ctx.Err()); err != nil {
				return err
			}
			if state != "" && !state.Ended() || !s.quietSince(id, before) {
				continue
			}
			if e, waits := v.entries[id]; waits {
				if err := remove(s.path(e.File)); err != nil {
					return err
				}
			}
			if s.links(id) > 1 { // somebody has just come upon it
				continue
			}
			if err := s.forget(id); err != nil {
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
	for _, trace := range []string{s.path(resultsDir, id), s.letter(id), s.mark(id)} {
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
	return errors.Join(remove(s.letter(id)), remove(s.mark(id)), tree.Remove(gone))
}

// Results implements queue.Store.
func (s *Spool) Results(_ context.Context, id string) ([]api.Result, error) {
	return s.results().List(id)
}

// files is a directory that is open.
type files struct {
	fs.ReadLinkFS
	io.Closer
	runs bool // so that of its result there is only the room
}

// ReadDir implements fs.ReadDirFS.
func (f files) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(f.ReadLinkFS, name)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return f.runs && e.Name() == "result.json" }), err
}

// Files implements queue.Store.
func (s *Spool) Files(_ context.Context, id string, attempt int) (queue.Files, error) {
	if !validID(id) {
		return nil, fmt.Errorf("files of task %s: %w", api.Excerpt(id), queue.ErrUnknown)
	}
	root, err := os.OpenRoot(s.results().Path(id, attempt))
	runs := missing(err)
	if runs { // not yet, but it may be in the making
		making, _ := fs.Glob(os.DirFS(s.dir), path.Join(workDir, "*", "attempt", id+"."+strconv.Itoa(attempt)+".result"))
		if len(making) > 0 {
			root, err = os.OpenRoot(s.path(making[0]))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("files of attempt %d of task %s: %w", attempt, id, err)
	}
	return files{tree.FS{Root: root}, root, runs}, nil
}
