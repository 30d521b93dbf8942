package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/result"
	"github.com/studioml/studio-go-runner/runner/internal/scheduler"
	"github.com/studioml/studio-go-runner/runner/internal/task"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

type executor struct {
	*Serve
	runner string
	log    *slog.Logger
}

var _ scheduler.Executor = (*executor)(nil)

func (e *executor) Execute(a scheduler.Attempt) (api.Result, *result.Attempt, error) {
	draft, err := a.Results.Begin(a.Task.ID, a.Number)
	if err != nil {
		return api.Result{}, nil, err
	}
	if err := draft.Resume(a.Checkpoint); err != nil {
		return api.Result{}, nil, errors.Join(err, draft.Discard())
	}
	r := task.Run(a.Terminate, a.Kill, task.Spec{
		Task: a.Task, Attempt: a.Number, Runner: e.runner, GPUs: a.GPUs, DrainFile: a.DrainFile,
		Dir: draft.Scratch(), Stdout: draft.Stdout(), Stderr: draft.Stderr(), Outputs: draft.Outputs(), Checkpoint: draft.Checkpoint(),
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

// drainDirs are the names of the directories in which runners show a drain.
const drainDirs = "studio-go-runner-drain-*"

// drainDir makes such a directory, and removes those of runners that have died. The
// runner holds a lock on it until remove is called.
func drainDir() (dir string, remove func() error, err error) {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), drainDirs))
	for _, dir := range left {
		if f, err := os.Open(dir); err == nil {
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				tree.Remove(dir) // another user's stays
			}
			f.Close()
		}
	}
	dir, err = os.MkdirTemp("", drainDirs)
	if err != nil {
		return "", nil, fmt.Errorf("make directory for the drain file: %w; set TMPDIR", err)
	}
	lock, err := os.Open(dir)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	return dir, func() error {
		defer lock.Close()
		return tree.Remove(dir)
	}, err
}
