package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

// QueueFlags say which queue a command is about.
type QueueFlags struct {
	Spool string `env:"STUDIOML_SPOOL" required:"" placeholder:"DIR" help:"Directory of the queue."`
}

// look calls do with the queue, which must be there, and of which do changes nothing.
func (q *QueueFlags) look(do func(queue.Store) error) error {
	if err := q.exists(); err != nil {
		return err
	}
	return do(spool.Look(q.Spool))
}

// change calls do with the queue, which must be there.
func (q *QueueFlags) change(do func(queue.Store) error) error {
	if err := q.exists(); err != nil {
		return err
	}
	return q.open(do)
}

func (q *QueueFlags) exists() error {
	if _, err := os.Stat(q.Spool); err != nil {
		return fmt.Errorf("there is no queue: %w; name the directory that the runners use", err)
	}
	return nil
}

// open calls do with the queue, which is made if there is none.
func (q *QueueFlags) open(do func(queue.Store) error) (err error) {
	store, err := spool.Open(q.Spool, spool.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return do(store)
}
