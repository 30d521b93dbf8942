// Package queue says what a runner needs of the place where tasks wait, and what
// the owners of tasks need of it. A directory and a database server mean the same
// by each call: TestContract, in the external tests of this package, plays one suite
// over both, with what each starts as a fixture.
//
// A task that waits has a priority, a place among those of the same priority,
// and a class: what it needs of a machine. One that a runner has fetched is that
// runner's, by a claim, for as long as the claim lives: with a directory as long
// as the process, or what is left of the attempt, does; with a server as long as
// its lease is renewed. When a claim ends unsettled, whatever way, the task is
// ready again at its old place, and the attempts that had begun stay counted.
package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/result"
)

// Queue hands out tasks.
type Queue interface {
	// Fetch waits for a task of a class that can be served, and claims it: of
	// those the one with the highest priority, and of these the first. serves is
	// asked about classes that wait, any number of times; others stay where they
	// are. When ctx ends, Fetch returns its error and holds nothing. Any other
	// error is temporary: the caller logs it, backs off and calls again.
	//
	// What must not run any more is dealt with on the way and never returned: a
	// task that was cancelled; one that has expired, whose attempts are used up or
	// that is no valid document goes to the dead-letter place.
	Fetch(ctx context.Context, serves func(class api.Resources) bool) (Delivery, error)
}

// Delivery is one claimed task. Finish or Release ends it; each is durable when
// it returns nil, and may be called again when it returns an error, unless that
// is ErrLost. Only Context may be used while another call goes on.
type Delivery interface {
	// Task is the document as submitted.
	Task() *api.Task
	// Context ends when the attempt is to be stopped, for the reason that is its
	// cause: ErrLost or ErrCancelled.
	Context() context.Context
	// Begin counts and makes durable a new attempt on these GPUs and returns its
	// number, 1 for the first start of the task. It is called right before the
	// start, so that a runner which dies is counted: a task that kills its runners
	// is buried some day, though none of that is an attempt that it failed.
	Begin(gpus []string) (attempt int, err error)
	// Local returns where the attempt makes what Finish keeps of it, and files
	// that must stay open for as long as a process of the attempt lives: they keep
	// the task from others.
	Local() (results *result.Store, held []*os.File)
	// Checkpoint copies the checkpoint of the attempts before into dir, which is
	// empty. It leaves it so if there is none.
	Checkpoint(dir string) error
	// Finish keeps the result, with what made holds, and ends the delivery as the
	// outcome says: Succeeded and Cancelled remove the task. Interrupted and
	// MachineFailed give it back to its old place, and the attempt is not held
	// against it. All else lets it wait at the end of the queue, after a pause that
	// grows with each attempt, or buries it if that was the last one. A task that
	// was cancelled meanwhile is removed in any case. It returns what became of the
	// task: Waiting, Finished, Dead or Cancelled.
	//
	// The result is on the disk before the task is gone. A directory checkpoint in
	// what is made becomes the task's, in the same step, until it has succeeded.
	Finish(r api.Result, made *result.Draft) (api.TaskState, error)
	// Release gives the task back to its old place, without a result. An attempt
	// that Begin counted is not held against it, though its number is not used again.
	Release() error
}

var (
	// ErrLost says that the claim is another's, or nobody's. Nothing was changed,
	// nor ever will be by this delivery.
	ErrLost = errors.New("the claim on the task is lost")
	// ErrCancelled says that the owner of the task has cancelled it.
	ErrCancelled = errors.New("its owner cancelled it")
)

// Store is what the owners of tasks need.
type Store interface {
	// Submit puts tasks behind those of their class and priority, in their order.
	// What it returns says what became of each of the first of them; all these are
	// durable, even if an error ended it. A document that was submitted before is no
	// error, and changes nothing; another one under the same id is an error.
	Submit(ctx context.Context, tasks []*api.Task) ([]Submitted, error)
	// List returns the tasks with these ids, or all: first those that wait, in the
	// order in which they would start anywhere, then those that run, then the rest. One
	// whose runner has died waits, though nobody has taken it back yet, and says so.
	// ErrUnknown wraps the ids that are not known. Documents are there for tasks that
	// are named, and for dead letters: who wants those of all asks again with their ids.
	List(ctx context.Context, ids ...string) ([]api.TaskStatus, error)
	// Cancel removes a task that waits, and stops one that runs. The error is
	// ErrEnded if it has ended before.
	Cancel(ctx context.Context, id string) error
	// Again lets a task that has ended run once more, with all its attempts and the
	// checkpoint that it left. Results stay, and attempts go on to be numbered.
	Again(ctx context.Context, id string) error
	// Purge removes what is known of tasks that ended before a time, and returns
	// how many. Their ids are free again.
	Purge(ctx context.Context, before time.Time) (int, error)
	// Results returns the results of a task, first attempt first. That of an attempt
	// which died with its runner is made by whoever took the task back.
	Results(ctx context.Context, id string) ([]api.Result, error)
	// Files opens what an attempt left: stdout, stderr, outputs, checkpoint. Of one
	// that runs there is what it has printed so far. The caller closes it.
	Files(ctx context.Context, id string, attempt int) (Files, error)
}

// Files are the files of an attempt. No link in them leads out of it.
type Files interface {
	fs.FS
	io.Closer
}

// Submitted says what became of a document.
type Submitted struct {
	ID string
	// Before says what a task is that was submitted before; empty for a new one.
	Before api.TaskState
}

var (
	ErrUnknown = errors.New("there is no such task")
	ErrEnded   = errors.New("it has ended")
	// ErrWaits says that a task cannot run again, because it has not ended.
	ErrWaits = errors.New("it has not ended")
	// ErrAway says that the place did not answer, or refused, and may do otherwise later.
	ErrAway = errors.New("the queue does not answer")
)

// NoSign is the reason in the result of an attempt that died with its runner.
const NoSign = "its runner gave no sign of life any more"

// Check says what is wrong with tasks that are to be submitted together.
func Check(tasks []*api.Task) error {
	seen := make(map[string]bool)
	for _, t := range tasks {
		err := t.Validate()
		if err == nil && seen[t.ID] {
			err = errors.New("id: is there twice; must be different for each task")
		}
		if err != nil {
			return fmt.Errorf("submit task%s: %w", Named(t.ID), err)
		}
		seen[t.ID] = t.ID != ""
	}
	return nil
}

// Named is the name of a task in a sentence, which a task without one has not.
func Named(id string) string {
	if id == "" {
		return ""
	}
	return " " + api.Excerpt(id)
}

// LongestPause is the longest that Pause returns.
const LongestPause = 5 * time.Minute

// Pause is the pause after an attempt when so many are held against the task. It
// doubles with each, and differs by up to a half, so that tasks that failed together
// do not come back together.
func Pause(spent int) time.Duration {
	const first = time.Second
	d := first << min(spent-1, 10)
	return min(d+rand.N(d/2), LongestPause)
}
