package spool

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Entry is a file in the queue, and what its name and its place say of the task.
type Entry struct {
	api.TaskStatus
	File string // its path from the spool
}

// view is what is seen of the queue. It reads no more than it is asked for: tasks
// that run are few, those that wait may be many.
type view struct {
	spool   *Spool
	entries map[string]Entry // by id: of those that run, or of all
	all     bool
	strays  map[uint64]bool // what else has a name in ready/, and may be a document
	err     error           // in reading them
}

// links counts the names of the document of a task: beside the one among the results
// there is another for as long as it is in the queue, wherever that is. Where a file
// system has no links there is never more than one.
func (s *Spool) links(id string) uint64 {
	var stat unix.Stat_t
	if unix.Lstat(s.document(id), &stat) != nil {
		return 0
	}
	return uint64(stat.Nlink)
}

func validID(id string) bool {
	return id != "" && (&api.Task{ID: id, Command: "true"}).Validate() == nil
}

func (s *Spool) look() *view {
	v := &view{spool: s}
	v.readRunning()
	return v
}

// state says what a task is; nothing of one that never came into the queue.
func (v *view) state(id string) (api.TaskState, error) {
	s := v.spool
	if !validID(id) {
		return "", v.err
	}
	open := s.links(id) > 1 // first: what ends a task is written before it leaves the queue
	dead, err1 := present(s.letter(id))
	cancelled, err2 := present(s.mark(id))
	failed := false // as far as that is known
	if !dead && !cancelled && !open && !v.all && v.entries[id].State == "" {
		finished, err := s.finished(id)
		if finished || err != nil {
			return api.TaskFinished, err
		}
		failed = true
		v.readAll()
	}
	e := v.entries[id]
	switch err := errors.Join(v.err, err1, err2); {
	case err != nil:
		return "", err
	case dead:
		return api.TaskDead, nil
	case e.State == api.TaskRunning:
		return api.TaskRunning, nil
	case cancelled:
		return api.TaskCancelled, nil
	case e.State == "" && open && v.onlyStrays(id):
		return api.TaskFinished, nil
	case e.State == "" && open: // it may also be on its way
		e = waiting(entry{}.of(cmp.Or(s.task(id), &api.Task{})), "")
	case e.State == "" && isThere(s.oldLetter(id)): // and a retry was interrupted
		if finished, err := s.finished(id); finished || err != nil {
			return api.TaskFinished, err
		}
		return api.TaskDead, nil
	case e.State == "" && !failed:
		if last, err := s.lastAttempt(id); err != nil || last > 0 {
			return api.TaskFinished, err
		}
	}
	return e.State, nil
}

// onlyStrays says whether a task has succeeded, and is in the queue under a name that
// people gave it, like the backup of an editor.
func (v *view) onlyStrays(id string) bool {
	s := v.spool
	if finished, _ := s.finished(id); !finished {
		return false
	}
	v.readAll()
	var stat unix.Stat_t
	return unix.Lstat(s.document(id), &stat) == nil && v.strays[stat.Ino] && v.entries[id].State == ""
}

// waiting is what the name of a file in ready/ says.
func waiting(e entry, file string) Entry {
	at := Entry{File: file}
	at.ID, at.State, at.Resources, at.Starts, at.Spent = e.id, api.TaskWaiting, e.class, e.starts, e.spent
	at.Since = time.UnixMicro(e.key).UTC()
	now := time.Now()
	if !e.due(now) {
		at.NotBefore = time.UnixMicro(e.from).UTC()
	}
	if reason := e.expired(now); reason != "" { // though nobody came to bury it yet
		at.State, at.Reason, at.Since = api.TaskDead, reason, time.Unix(e.expires, 0).UTC()
	}
	return at
}

// readAll reads the places in the order in which tasks pass them, so that one which
// moves on is seen. One that moves back meanwhile may be missed; its links tell.
func (v *view) readAll() {
	if v.all {
		return
	}
	v.all, v.strays = true, map[uint64]bool{}
	var all []Entry
	buckets, err := v.spool.buckets()
	v.note(err)
	for _, b := range buckets {
		place := filepath.Join(readyDir, b.name())
		names, err := fileNames(v.spool.path(place))
		v.note(err)
		for _, name := range names {
			var stat unix.Stat_t
			if e, ok := parseName(name); ok {
				all = append(all, waiting(e, filepath.Join(place, name)))
			} else if unix.Lstat(v.spool.path(place, name), &stat) == nil {
				v.strays[stat.Ino] = true
			}
		}
	}
	// Within a priority, what pauses comes last.
	slices.SortStableFunc(all, func(a, b Entry) int {
		x, y := filepath.Base(a.File), filepath.Base(b.File)
		return cmp.Or(strings.Compare(x[:min(2, len(x))], y[:min(2, len(y))]), a.NotBefore.Compare(b.NotBefore), strings.Compare(x, y))
	})
	v.readRunning()
	ended, position := v.named(deadDir, cancelledDir), 0
	for _, e := range all {
		if _, seen := v.entries[e.ID]; seen {
			continue
		}
		if e.State == api.TaskWaiting && !ended[e.ID] {
			position++
			e.Position = position
		}
		v.entries[e.ID] = e
	}
}

// named has the ids that files or directories in these directories are named by.
func (v *view) named(dirs ...string) map[string]bool {
	ids := map[string]bool{}
	for _, dir := range dirs {
		all, err := names(v.spool.path(dir), func(e fs.DirEntry) bool { return e.IsDir() == (dir == resultsDir) })
		v.note(err)
		for _, name := range all {
			ids[strings.TrimSuffix(name, ".json")] = true
		}
	}
	return ids
}

// note remembers what could not be read, but for what has just gone.
func (v *view) note(err error) {
	if !missing(err) || !isThere(v.spool.path(resultsDir)) {
		v.err = errors.Join(v.err, err)
	}
}

// readRunning reads what runners have claimed.
func (v *view) readRunning() {
	s := v.spool
	v.entries = map[string]Entry{}
	names, err := fileNames(s.path(heldDir))
	v.note(err)
	for _, file := range names {
		claim, e, ok := parseHeld(file)
		if !ok {
			continue
		}
		runner, gpus := s.said(claim)
		at := waiting(e, filepath.Join(heldDir, file))
		at.State, at.Reason, at.NotBefore, at.Runner = api.TaskRunning, "", time.Time{}, runner
		if e.deaths > 0 { // else they are those of the task before
			at.GPUs = gpus
		}
		var stat unix.Stat_t
		if unix.Lstat(s.path(at.File), &stat) == nil { // it came, or was begun, then
			at.Since = time.Unix(stat.Ctim.Unix()).UTC()
		}
		v.entries[e.id] = at
	}
}
