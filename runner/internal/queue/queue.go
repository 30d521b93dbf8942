// Package queue says what a runner needs of the place where tasks wait. The
// rules are those of a message broker with acknowledgements, so that a spool
// directory and AMQP mean the same by each call:
//
//	Fetch    consume with a prefetch of one; ending ctx is the consumer cancel
//	Begin    no AMQP call: the broker counts deliveries itself
//	Ack      basic.ack
//	Release  basic.nack, requeue
//	Retry    publish a copy with the new count, then basic.ack
//	Bury     publish to the dead-letter exchange with the reason, then basic.ack
//
// A delivery belongs to the process that fetched it and to nobody else for as
// long as that process lives. When it dies, whatever way, its deliveries are
// ready again and the attempts that had begun stay counted.
package queue

import (
	"context"
	"os"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Queue hands out tasks.
type Queue interface {
	// Fetch waits for a task that accept agrees to, and claims it. Tasks that
	// accept refuses stay where they are. When ctx ends, Fetch returns its
	// error and holds nothing. Any other error is temporary: the caller logs
	// it, backs off and calls again.
	//
	// A document that is no valid task, or a task whose attempts are used up,
	// is moved to the dead-letter place on the way and never returned.
	Fetch(ctx context.Context, accept func(*api.Task) bool) (Delivery, error)
}

// Delivery is one claimed task. Exactly one of Ack, Release, Retry and Bury
// ends it; each is durable when it returns nil, and may be called again when
// it returns an error. Calls on one delivery do not overlap.
type Delivery interface {
	// Task is the document as submitted.
	Task() *api.Task
	// Begin counts and makes durable a new attempt and returns its number, 1
	// for the first start of the task. It is called right before the start, so
	// that a runner which dies is counted: a task that kills its runners is buried
	// some day, though none of that is an attempt that it failed.
	Begin() (attempt int, err error)
	// Ack removes the task: it is finished and its result is stored.
	Ack() error
	// Release gives the task back to its old place in the queue. An attempt
	// that Begin counted is not held against the task, though its number is
	// not used again.
	Release() error
	// Retry puts the task at the end of the queue after a failed attempt, or,
	// if that was the last one, into the dead-letter place with the reason.
	Retry(reason string) (buried bool, err error)
	// Bury puts the task into the dead-letter place.
	Bury(reason string) error
}

// Local is what a Delivery is as well, whose claim lives by a lock on this machine.
type Local interface {
	// Local returns a directory for what the attempt makes, on the file system of
	// the results, and files that must stay open for as long as a process of the
	// attempt lives: they keep the task from others.
	Local() (dir string, held []*os.File)
}
