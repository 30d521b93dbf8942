package spool

import (
	"cmp"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Entry is a task in the queue, as the names of its file and its place say.
type Entry struct {
	File string // path of the task's file, from the spool
	// ID and what follows are empty for a file whose name is none of a task.
	ID        string
	Submitted time.Time // or the time of the last retry
	Starts    int       // how often it was started
	Attempts  int       // how many of these are held against it
	// NotBefore is the end of the pause after an attempt that failed.
	NotBefore time.Time
	Class     api.Resources // of a ready task
	// Runner is the name of the runner that holds the task, Claim the
	// directory it is in; empty for ready tasks.
	Runner string
	Claim  string
}

// listing is what the names say.
type listing struct {
	ready, claimed  []Entry
	dead, cancelled []string
}

// list reads the places in the order in which tasks pass them, so one that moves
// on is seen at least once. For those that move back, as in a release, the names
// are read until they stay the same; in a queue so busy that they never do, any
// answer is out of date at once.
func list(dir string) (*listing, error) {
	const tries = 10
	var before, names *listing
	for range tries {
		before = names
		var err error
		if names, err = listOnce(dir); err != nil {
			return nil, err
		}
		if before != nil && reflect.DeepEqual(before, names) {
			break
		}
	}
	return names.single(), nil
}

func listOnce(dir string) (*listing, error) {
	s := &Spool{dir: dir}
	l := &listing{ready: []Entry{}, claimed: []Entry{}}
	add := func(to *[]Entry, place string, base Entry) error {
		names, err := fileNames(s.path(place))
		for _, name := range names {
			e := base
			e.File = filepath.Join(place, name)
			if parsed, err := parseName(name); err == nil {
				e.ID, e.Submitted, e.Starts, e.Attempts = parsed.id, time.Unix(0, parsed.key).UTC(), parsed.starts, parsed.spent
			}
			*to = append(*to, e)
		}
		return err
	}
	if err := add(&l.ready, tasksDir, Entry{}); err != nil {
		return nil, err
	}
	if err := s.listReady(l, add); err != nil {
		return nil, err
	}
	for _, place := range []string{heldDir, claimsDir} {
		claims, err := dirNames(s.path(place))
		if err != nil && !(missing(err) && place == heldDir) { // runners of before made no such place
			return nil, err
		}
		for _, c := range claims {
			err := add(&l.claimed, filepath.Join(place, c, tasksDir), Entry{Runner: readOwner(s.path(place, c)), Claim: filepath.Join(place, c)})
			if err != nil && !missing(err) { // its owner has just closed it
				return nil, err
			}
		}
	}
	dead, err := fileNames(s.path(deadDir))
	if err != nil {
		return nil, err
	}
	for _, name := range dead {
		l.dead = append(l.dead, strings.TrimSuffix(name, ".json"))
	}
	l.cancelled, err = fileNames(s.path(cancelledDir))
	if err != nil && !missing(err) {
		return nil, err
	}
	return l, nil
}

// listReady lists what waits, lane by lane.
func (s *Spool) listReady(l *listing, add func(*[]Entry, string, Entry) error) error {
	lanes, err := s.lanes()
	if err != nil && !missing(err) {
		return err
	}
	now := time.Now()
	for len(lanes) > 0 {
		begin, priority := len(l.ready), lanes[0].priority
		for ; len(lanes) > 0 && lanes[0].priority == priority; lanes = lanes[1:] {
			buckets, err := lanes[0].buckets(s)
			for _, b := range buckets {
				var base Entry
				base.Class, _ = parseClass(lanes[0].class)
				if !b.due(now) {
					base.NotBefore = time.Unix(0, b.from).UTC()
				}
				place := filepath.Join(readyDir, lanes[0].class, lanes[0].priority, b.name)
				if err := add(&l.ready, place, base); err != nil && !missing(err) {
					return err
				}
			}
			if err != nil && !missing(err) {
				return err
			}
		}
		slices.SortStableFunc(l.ready[begin:], func(a, b Entry) int {
			return cmp.Or(a.NotBefore.Compare(b.NotBefore), a.Submitted.Compare(b.Submitted))
		})
	}
	return nil
}

// single leaves each task at one place only: the later one counts. One that was
// cancelled runs for as long as it does.
func (l *listing) single() *listing {
	seen := map[string]bool{}
	add := func(ids []string) {
		for _, id := range ids {
			seen[id] = true
		}
	}
	only := func(entries []Entry) []Entry {
		return slices.DeleteFunc(entries, func(e Entry) bool {
			drop := e.ID != "" && seen[e.ID]
			seen[e.ID] = true
			return drop
		})
	}
	add(l.dead)
	l.claimed = only(l.claimed)
	add(l.cancelled)
	l.ready = only(l.ready)
	return l
}

// ids says which tasks are in the queue.
func (l *listing) ids() map[string]api.TaskState {
	ids := make(map[string]api.TaskState, len(l.ready)+len(l.claimed))
	for _, e := range l.ready {
		ids[e.ID] = api.TaskWaiting
	}
	for _, e := range l.claimed {
		ids[e.ID] = api.TaskRunning
	}
	return ids
}
