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

// Entry is a file in the queue, and what its name and its place say of the task. The
// name is the id where it is none of a task.
type Entry struct {
	api.TaskStatus
	File  string // its path from the spool
	Claim string // that it is in
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
			e.ID, e.File = name, filepath.Join(place, name)
			if parsed, err := parseName(name); err == nil {
				e.ID, e.Since, e.Starts, e.Spent = parsed.id, time.Unix(0, parsed.key).UTC(), parsed.starts, parsed.spent
			}
			*to = append(*to, e)
		}
		return err
	}
	waiting := Entry{TaskStatus: api.TaskStatus{State: api.TaskWaiting}}
	if err := add(&l.ready, tasksDir, waiting); err != nil {
		return nil, err
	}
	if err := s.listReady(l, waiting, add); err != nil {
		return nil, err
	}
	for _, place := range []string{heldDir, claimsDir} {
		claims, err := dirNames(s.path(place))
		if err != nil && !(missing(err) && place == heldDir) { // runners of before made no such place
			return nil, err
		}
		for _, c := range claims {
			running := Entry{Claim: filepath.Join(place, c)}
			running.State, running.Runner = api.TaskRunning, readOwner(s.path(place, c))
			err := add(&l.claimed, filepath.Join(place, c, tasksDir), running)
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
func (s *Spool) listReady(l *listing, waiting Entry, add func(*[]Entry, string, Entry) error) error {
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
				base := waiting
				base.Resources, _ = parseClass(lanes[0].class)
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
			return cmp.Or(a.NotBefore.Compare(b.NotBefore), a.Since.Compare(b.Since))
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
			drop := seen[e.ID]
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
	for _, e := range slices.Concat(l.ready, l.claimed) {
		ids[e.ID] = e.State
	}
	return ids
}
