package spool

import (
	"context"
	"errors"
	"fmt"
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

func (d *delivery) Work() (dir string, held []*os.File) { return d.claim.path(workDir), d.claim.locks }

// Crash does to the spool what the death of its process does: the lock is
// dropped, and nothing is given back.
func (s *Spool) Crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isClosed() {
		close(s.closed)
	}
	for _, c := range s.idle {
		c.unlock()
	}
	for d := range s.held {
		d.claim.unlock()
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
	l, err := list(dir)
	if err != nil {
		return Contents{}, fmt.Errorf("list spool %s: %w", dir, err)
	}
	c := Contents{Ready: l.ready, Claimed: l.claimed, Dead: []Dead{}, Cancelled: l.cancelled}
	for _, id := range l.dead {
		c.Dead = append(c.Dead, Dead{ID: id, DeadLetter: readLetter(filepath.Join(dir, deadDir, id+".json"))})
	}
	return c, nil
}

// Sweep sweeps now.
func (s *Spool) Sweep() { s.sweep() }

// Older makes the last sweep older.
func (s *Spool) Older(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.swept = s.swept.Add(-by)
}

// Parse and Name make the parser of the queue's files accessible to fuzzing.
var Parse = func(name string, document []byte) (canonical string, valid bool) {
	e, task, err := parse(name, document)
	if err != nil {
		return "", false
	}
	if task.Validate() != nil || task.ID == "" {
		panic("parse let an invalid task pass")
	}
	return e.name(), true
}

// Discard does what Fetch does with a file that it could not read as a task.
func (s *Spool) Discard(name string) error {
	return s.discard(name, &badDocument{errors.New("it was read before")})
}
