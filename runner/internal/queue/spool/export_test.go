package spool

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// Delivery has the steps of Finish one by one.
type Delivery interface {
	queue.Delivery
	Ack() error
	Retry(reason string) (buried bool, err error)
	Bury(reason string) error
	Work() (dir string, held []*os.File)
}

var _ Delivery = (*delivery)(nil)

// SubmitOne submits a task and returns its id.
func (s *Spool) SubmitOne(task *api.Task) (string, error) {
	done, err := s.Submit(context.Background(), []*api.Task{task})
	if err != nil {
		return "", err
	}
	return done[0].ID, nil
}

func (d *delivery) Ack() error { return d.settle("ack", d.remove) }

func (d *delivery) Retry(reason string) (buried bool, err error) {
	var state api.TaskState
	err = d.settle("retry", func() (err error) {
		state, err = d.retry(api.Result{Reason: reason})
		return err
	})
	return state == api.TaskDead, err
}

func (d *delivery) Bury(reason string) error {
	return d.settle("bury", func() error { return d.bury(reason, d.entry.spent) })
}

// Claim makes a claim, says whether others see that it is locked, and removes it.
func (s *Spool) Claim() (locked bool, err error) {
	c, err := s.newClaim()
	if err != nil {
		return false, err
	}
	return isAt(c.lock, s.lockPath(c.name)), s.closeClaim(c)
}

// Reclaim gives back what dead runners have left.
func (s *Spool) Reclaim() { s.reclaim() }

// MakeWork is the second half of a claim that is made.
func (s *Spool) MakeWork(claim string) error { return s.makeWork(claim) }

func (d *delivery) Work() (dir string, held []*os.File) {
	return d.spool.workPath(d.claim.name), []*os.File{d.claim.lock}
}

// Crash does to the spool what the death of its process does: the lock is
// dropped, and nothing is given back.
func (s *Spool) Crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
	for len(s.idle) > 0 {
		(<-s.idle).lock.Close()
	}
	for d := range s.held {
		d.claim.lock.Close()
	}
}

// Contents is what a spool holds.
type Contents struct {
	Ready     []Entry // in the order in which they would start
	Claimed   []Entry // by claim
	Dead      []Dead  // by ID
	Cancelled []string
}

// Dead is a task that the queue gave up.
type Dead struct {
	ID string // or, for a file that was no task, the name of its letter
	api.DeadLetter
}

// ReadContents lists the spool dir. It takes no lock and changes nothing. A
// task that is on its way from one place to another may be listed at either,
// never at both.
func ReadContents(dir string) (Contents, error) {
	s := Look(dir)
	all, err := s.List(context.Background())
	v := s.look()
	v.readAll()
	if err := errors.Join(err, v.err); err != nil {
		return Contents{}, err
	}
	c := Contents{Ready: []Entry{}, Claimed: []Entry{}, Dead: []Dead{}}
	for _, t := range all {
		e := Entry{TaskStatus: t, File: v.entries[t.ID].File}
		switch t.State {
		case api.TaskWaiting:
			c.Ready = append(c.Ready, e)
		case api.TaskRunning:
			c.Claimed = append(c.Claimed, e)
		case api.TaskDead:
			c.Dead = append(c.Dead, Dead{ID: t.ID, DeadLetter: readLetter(s.letter(t.ID))})
		case api.TaskCancelled:
			c.Cancelled = append(c.Cancelled, t.ID)
		}
	}
	return c, nil
}

// ResultsDir is the directory of the spool dir for package result.
func ResultsDir(dir string) string { return filepath.Join(dir, resultsDir) }

// Parse makes the parser of the queue's files accessible to fuzzing.
var Parse = func(name string, document []byte) (canonical string, valid bool) {
	e, ok := parseName(name)
	if !ok {
		return "", false
	}
	task, err := parse(e.id, document)
	if err != nil {
		return "", false
	}
	if task.Validate() != nil || task.ID == "" {
		panic("parse let an invalid task pass")
	}
	return e.name(), true
}

// Tidy lets the next look for what has expired, or is left over, be the first one after
// so long.
func (s *Spool) Tidy(ago time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tidied = time.Now().Add(-ago)
}

// TakeRead takes a file of which this was read before.
func (s *Spool) TakeRead(path string, document []byte) error {
	e, _ := parseName(filepath.Base(path))
	_, err := s.take(path, e, document)
	return err
}
