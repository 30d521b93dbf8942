// Package task runs one attempt of a task as a process, with all that it starts;
// see package supervise.
package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/supervise"
)

// Spec is what Run needs to know.
type Spec struct {
	Task    *api.Task
	Attempt int
	Runner  string   // name of the runner
	GPUs    []string // UUIDs; none means that the task sees no GPU
	// DrainFile is the path of the file that exists while the runner drains.
	DrainFile string

	Dir        string // working directory of the process, unless the task names one
	Stdout     string // paths of the output files, which are created
	Stderr     string
	Parts      *os.Root // where they are, for what comes after half of OutputLimit; nil keeps no more
	Outputs    string   // directory for what is kept with the result
	Checkpoint string   // directory for what the next attempt finds again
	// OutputLimit is how many bytes of each output are kept.
	OutputLimit int64
	// DiskLimit is how many bytes the files in Dir may take; 0 means no limit.
	DiskLimit int64
	// Drained says whether the runner has drained at any moment of the attempt.
	// nil means that it has not.
	Drained func() bool
	// KillDelay is the time between TERM and KILL, for all processes of the
	// attempt, and also how long Run waits for the end of the output when something
	// that is none of them keeps it open.
	KillDelay time.Duration
	// Held are files that stay open while a process of the attempt lives, whatever
	// becomes of the runner. The task does not get them.
	Held []*os.File
	// Stuck is told of a process that not even KILL ends, once; nil = nobody is.
	Stuck func(pid int, user string)
	// Environ is the runner's environment, as of os.Environ. What configures
	// the runner is left out for the task.
	Environ []string
}

// Run starts the process and waits for its end. When ctx ends, all processes of
// the attempt get TERM, and KILL after KillDelay; when kill ends, they get KILL at
// once. In both cases the outcome is Interrupted, whatever exit status the task
// then chooses, with the cause of the context as the reason. The status
// api.ExitInterrupted in a drain means the same.
//
// When Run returns, nothing is left of the attempt. A process that not even KILL
// ends keeps it from returning.
//
// The outcome is MachineFailed where the machine refused what it takes to start a
// process, so that the attempt says nothing about the task.
func Run(ctx, kill context.Context, spec Spec) api.Result {
	r := api.Result{
		Task:     spec.Task.ID,
		Attempt:  spec.Attempt,
		Runner:   spec.Runner,
		GPUs:     spec.GPUs,
		ExitCode: -1,
		Started:  time.Now().UTC(),
	}
	run(ctx, kill, spec, &r)
	r.Finished = time.Now().UTC()
	return r
}

func run(ctx, kill context.Context, spec Spec, r *api.Result) {
	for _, c := range []context.Context{kill, ctx} {
		if c.Err() != nil {
			r.Outcome, r.Reason = api.Interrupted, "interrupted before the start: "+context.Cause(c).Error()
			return
		}
	}
	stdout, err1 := newOutput(spec.Stdout, spec.Parts, spec.OutputLimit)
	stderr, err2 := newOutput(spec.Stderr, spec.Parts, spec.OutputLimit)
	defer func() {
		r.StdoutLeftOut, r.StdoutTruncated = stdout.close()
		r.StderrLeftOut, r.StderrTruncated = stderr.close()
	}()
	if err := errors.Join(err1, err2); err != nil {
		r.Outcome, r.Reason = api.MachineFailed, fmt.Sprintf("the runner cannot keep the output: %v", err)
		return
	}

	dir, env := cmp.Or(spec.Task.Workdir, spec.Dir), environ(spec)
	info, err := os.Stat(dir)
	path := ""
	if err == nil && !info.IsDir() {
		err = unix.ENOTDIR
	}
	if err != nil {
		err = fmt.Errorf("workdir %s: %w", api.Excerpt(dir), err)
	} else {
		path, err = lookPath(spec.Task.Command, dir, env)
	}
	if err != nil {
		r.Outcome, r.Reason = api.Failed, err.Error()
		if !supervise.Own(err) {
			r.Outcome = api.MachineFailed
		}
		return
	}
	kills := memoryKills()
	process, err := supervise.Start(supervise.Command{
		Path: path, Args: append([]string{spec.Task.Command}, spec.Task.Args...), Env: env, Dir: dir,
		Stdout: stdout, Stderr: stderr, OutputDelay: max(spec.KillDelay, time.Second),
		KillDelay: spec.KillDelay, Held: spec.Held,
		Stuck: func(pid int) {
			if spec.Stuck != nil {
				spec.Stuck(pid, userOf(pid))
			}
		},
	})
	if err != nil {
		r.Outcome, r.Reason = api.MachineFailed, fmt.Sprintf("command %s could not be started: %v", api.Excerpt(spec.Task.Command), err)
		if errors.As(err, new(*supervise.Program)) {
			r.Outcome = api.Failed
		}
		return
	}
	kill, enough := limitDisk(kill, spec.Dir, spec.DiskLimit)
	defer enough()
	if timeout := time.Duration(spec.Task.Timeout); timeout > 0 {
		over := breach{api.TimedOut, fmt.Sprintf("the timeout of %s ended it", timeout)}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, over)
		defer cancel()
	}
	why := attend(ctx, kill, process)
	classify(r, process.State(), why)
	if r.ExitCode == api.ExitInterrupted && r.Outcome != api.Interrupted && spec.Drained != nil && spec.Drained() {
		r.Outcome = api.Interrupted
		r.Reason = fmt.Sprintf("interrupted: it left with exit status %d in a drain, to go on later", r.ExitCode)
	}
	if r.Outcome == api.Failed && kills >= 0 && memoryKills() > kills {
		r.Reason += "; meanwhile the kernel ended a process for want of memory"
	}
}

// breach is why an attempt was ended from here that is not interrupted by that.
type breach struct {
	outcome api.Outcome
	reason  string
}

func (b breach) Error() string { return b.reason }

// attend returns when nothing of the attempt is left, with the reason for which it
// was ended from here, or nil. Only the first one counts.
func attend(ctx, kill context.Context, process *supervise.Process) (why error) {
	select {
	case <-process.Done():
		return nil
	case <-kill.Done():
		why = context.Cause(kill)
		process.Kill()
	case <-ctx.Done():
		why = context.Cause(ctx)
		process.Terminate()
	}
	select {
	case <-process.Done():
	case <-kill.Done():
		process.Kill()
		<-process.Done()
	}
	return why
}

// classify fills in how the attempt ended.
func classify(r *api.Result, end supervise.State, why error) {
	how := ""
	switch {
	case end.Unsupervised:
		how = "something ended its supervisor, and with it the attempt"
	case end.Status.Signaled():
		r.Signal = unix.SignalName(end.Status.Signal())
		how = "ended by " + r.Signal
	default:
		r.ExitCode = end.Status.ExitStatus()
		how = fmt.Sprintf("exit status %d", r.ExitCode)
	}
	switch {
	case why != nil && (end.Asked || end.Unsupervised):
		r.Outcome, r.Reason = api.Interrupted, "interrupted: "+why.Error()
		if b, ok := errors.AsType[breach](why); ok {
			r.Outcome, r.Reason = b.outcome, b.reason
		}
		r.Reason += fmt.Sprintf(" (%s)", how)
	case r.ExitCode == 0:
		r.Outcome = api.Succeeded
		if end.OutputOpen {
			r.Reason = "a process that it does not own kept its output open; what that wrote later is not kept"
		}
	default:
		r.Outcome, r.Reason = api.Failed, how
	}
}

// userOf names the user that a process runs as.
func userOf(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, uids, _ := strings.Cut(string(text), "\nUid:\t")
	uid, _, _ := strings.Cut(uids, "\t")
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return cmp.Or(uid, "unknown")
}
