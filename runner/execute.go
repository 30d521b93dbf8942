package main

import (
	"os"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/result"
	"github.com/studioml/studio-go-runner/runner/internal/scheduler"
	"github.com/studioml/studio-go-runner/runner/internal/task"
)

// executor runs attempts as processes and stores their results.
type executor struct {
	runner      string
	killDelay   time.Duration
	outputLimit int64
	results     *result.Store
}

var _ scheduler.Executor = (*executor)(nil)

// Execute implements scheduler.Executor.
func (e *executor) Execute(a scheduler.Attempt) (api.Result, func(api.Result) error, error) {
	draft, err := e.results.Begin(a.Task.ID, a.Number)
	if err != nil {
		return api.Result{}, nil, err
	}
	r := task.Run(a.Terminate, a.Kill, task.Spec{
		Task: a.Task, Attempt: a.Number, Runner: e.runner, GPUs: a.GPUs, DrainFile: a.DrainFile,
		Dir: draft.Scratch(), Stdout: draft.Stdout(), Stderr: draft.Stderr(),
		OutputLimit: e.outputLimit, KillDelay: e.killDelay, Environ: os.Environ(),
	})
	return r, draft.Commit, nil
}
