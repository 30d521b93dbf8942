package spool

import (
	"errors"
	"time"
)

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
	c, err := s.takeClaim()
	if err != nil {
		return err
	}
	defer s.dropClaim(c)
	return s.discard(c, name, &badDocument{errors.New("it was read before")})
}
