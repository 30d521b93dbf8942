package spool

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Contents is what a spool holds, for people and for tests.
type Contents struct {
	Ready   []Entry `json:"ready"`   // oldest first
	Claimed []Entry `json:"claimed"` // by runner, then oldest first
	Dead    []Dead  `json:"dead"`    // by ID
}

// Entry is a task in the queue.
type Entry struct {
	File string `json:"file"` // name of the task's file
	// ID and what follows are empty for a file whose name is none of a task.
	ID        string    `json:"id,omitempty"`
	Submitted time.Time `json:"submitted,omitzero"` // or the time of the last retry
	Starts    int       `json:"starts"`             // how often it was started
	Attempts  int       `json:"attempts"`           // how many of these are held against it
	// Runner is the name of the runner that holds the task, Claim the
	// directory it is in; empty for ready tasks.
	Runner string `json:"runner,omitempty"`
	Claim  string `json:"claim,omitempty"`
}

// Dead is a task that the queue gave up.
type Dead struct {
	ID string `json:"id"` // or, for a file that was no task, the name of its letter
	api.DeadLetter
}

// ReadContents lists the spool dir. It takes no lock and changes nothing. A
// task that is on its way from one place to another may be listed at either,
// never at both.
func ReadContents(dir string) (Contents, error) {
	// Places are read in the order in which tasks pass them, so one that moves
	// on is seen at least once. For those that move back, as in a release, the
	// names are read until they stay the same; in a queue so busy that they
	// never do, any answer is out of date at once.
	const tries = 10
	var before, names *listing
	for range tries {
		before = names
		var err error
		if names, err = list(dir); err != nil {
			return Contents{}, fmt.Errorf("list spool %s: %w", dir, err)
		}
		if before != nil && reflect.DeepEqual(before, names) {
			break
		}
	}
	return names.contents(dir), nil
}

// listing holds file names only; claims by their directory.
type listing struct {
	tasks  []string
	claims []claimListing
	dead   []string
}

type claimListing struct {
	name, runner string
	tasks        []string
}

func list(dir string) (*listing, error) {
	var l listing
	var err error
	if l.tasks, err = fileNames(filepath.Join(dir, tasksDir)); err != nil {
		return nil, err
	}
	claims, err := os.ReadDir(filepath.Join(dir, claimsDir))
	if err != nil {
		return nil, err
	}
	for _, c := range claims {
		path := filepath.Join(dir, claimsDir, c.Name())
		names, err := fileNames(filepath.Join(path, tasksDir))
		if missing(err) {
			continue // its owner has just closed it
		}
		if err != nil {
			return nil, err
		}
		l.claims = append(l.claims, claimListing{c.Name(), readOwner(path), names})
	}
	l.dead, err = fileNames(filepath.Join(dir, deadDir))
	return &l, err
}

func (l *listing) contents(dir string) Contents {
	c := Contents{Ready: []Entry{}, Claimed: []Entry{}, Dead: []Dead{}}
	seen := map[string]bool{} // the later place counts
	for _, name := range l.dead {
		letter := readLetter(filepath.Join(dir, deadDir, name))
		c.Dead = append(c.Dead, Dead{ID: strings.TrimSuffix(name, ".json"), DeadLetter: letter})
		seen[c.Dead[len(c.Dead)-1].ID] = true
	}
	for _, held := range l.claims {
		for _, name := range held.tasks {
			e := newEntry(name)
			e.Runner, e.Claim = held.runner, held.name
			if e.ID == "" || !seen[e.ID] {
				c.Claimed = append(c.Claimed, e)
			}
			seen[e.ID] = true
		}
	}
	for _, name := range l.tasks {
		if e := newEntry(name); e.ID == "" || !seen[e.ID] {
			c.Ready = append(c.Ready, e)
		}
	}
	return c
}

func newEntry(file string) Entry {
	e, err := parseName(file)
	if err != nil {
		return Entry{File: file}
	}
	return Entry{File: file, ID: e.id, Submitted: time.Unix(0, e.key).UTC(), Starts: e.starts, Attempts: e.spent}
}

// readLetter puts what is wrong with a letter in the place of its reason.
func readLetter(path string) api.DeadLetter {
	text, err := os.ReadFile(path)
	var letter api.DeadLetter
	if err == nil {
		err = json.Unmarshal(text, &letter)
	}
	if err != nil {
		return api.DeadLetter{Reason: fmt.Sprintf("the dead letter cannot be read: %v", err)}
	}
	return letter
}
