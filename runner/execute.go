package main

import (
	"errors"
	"log/slog"
	"os"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/result"
	"github.com/studioml/studio-go-runner/runner/internal/scheduler"
	"github.com/studioml/studio-go-runner/runner/internal/task"
)

type executor struct {
	*Serve
	runner string
	log    *slog.Logger
}

var _ scheduler.Executor = (*executor)(nil)

func (e *executor) Execute(a scheduler.Attempt) (api.Result, *result.Draft, error) {
	draft, err := a.Results.Begin(a.Task.ID, a.Number)
	if err != nil {
		return api.Result{}, nil, err
	}
	err = draft.Resume(a.Checkpoint) // which may take long
	if err == nil {
		err = a.Start()
	}
	if err != nil {
		return api.Result{}, nil, errors.Join(err, draft.Discard())
	}
	r := task.Run(a.Terminate, a.Kill, task.Spec{
		Task: a.Task, Attempt: a.Number, Runner: e.runner, GPUs: a.GPUs, DrainFile: a.DrainFile,
		Dir: draft.Scratch(), Stdout: draft.Stdout(), Stderr: draft.Stderr(), Parts: draft.Files(), Outputs: draft.Outputs(), Checkpoint: draft.Checkpoint(),
		OutputLimit: e.OutputLimit, DiskLimit: e.DiskLimit, Drained: a.Drained, KillDelay: e.KillDelay, Environ: os.Environ(), Held: a.Held,
		Stuck: func(pid int, user string) {
			e.log.Error("a process of the task cannot be ended; until it ends, the task stays claimed and its GPUs in use",
				"task", a.Task.ID, "attempt", a.Number, "pid", pid, "user", user)
		},
	})
	left, err := draft.Close(&r, result.Limits{Outputs: e.OutputLimit, Checkpoint: e.CheckpointLimit})
	if left != nil {
		e.log.Warn("not all of the task's directory could be removed; trying again later",
			"task", a.Task.ID, "attempt", a.Number, "error", left)
	}
	if err == nil && r.Outcome == api.MachineFailed {
		err = errors.New(r.Reason)
	}
	if err != nil {
		draft.Discard() // what is left is removed with the claim
		return api.Result{}, nil, err
	}
	return r, draft, nil
}
