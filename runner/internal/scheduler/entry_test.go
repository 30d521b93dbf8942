package scheduler_test

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/result"
)

// entry is a task and what became of it.
type entry struct {
	machine  *machine
	task     *api.Task
	duration time.Duration
	failures int // how many attempts fail by themselves

	key           int // orders the queue
	starts, spent int
	overtook      int           // how many tasks went past it while it was fetched and had no GPUs
	past          []*entry      // whom it went past when it was fetched
	crash         chan struct{} // ends the present attempt by a failure; nil if it did
}

func (e *entry) Task() *api.Task { return e.task }

func (e *entry) Context() context.Context           { return context.Background() }
func (e *entry) Local() (*result.Store, []*os.File) { return nil, nil }
func (e *entry) Checkpoint(string) error            { return nil }

func (e *entry) Begin([]string) (int, error) {
	m := e.machine
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting = slices.DeleteFunc(m.waiting, func(w *entry) bool { return w == e })
	e.starts++
	e.spent++
	return e.starts, nil
}

func (e *entry) Finish(r api.Result, _ *result.Draft) (api.TaskState, error) {
	switch r.Outcome {
	case api.Succeeded:
		return api.TaskFinished, e.finished()
	case api.Interrupted, api.MachineFailed:
		return api.TaskWaiting, e.Release()
	}
	return api.TaskWaiting, e.retry()
}

func (e *entry) finished() error {
	e.machine.mu.Lock()
	defer e.machine.mu.Unlock()
	if e.spent != e.failures+1 {
		e.machine.Errorf("%s used %d attempts, %d failed by themselves", e.task.ID, e.spent, e.failures)
	}
	e.machine.open--
	return nil
}

func (e *entry) Release() error {
	m := e.machine
	m.mu.Lock()
	defer m.mu.Unlock()
	before := len(m.waiting)
	m.waiting = slices.DeleteFunc(m.waiting, func(w *entry) bool { return w == e })
	if len(m.waiting) == before {
		e.spent--
	} else {
		for _, w := range e.past {
			w.overtook-- // it did not after all
		}
	}
	m.put(e)
	return nil
}

func (e *entry) retry() error {
	m := e.machine
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys++
	e.key = m.keys
	m.put(e)
	return nil
}
