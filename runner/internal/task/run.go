// Package task runs one attempt of a task as a process.
//
// The process leads a group of its own, so that what it starts can be ended
// with it, and dies with the runner, so that a killed runner leaves no task
// behind that another runner starts again. What the process itself has started
// outlives a runner that gets SIGKILL, unless the runner was the first process
// of a container: nothing is left then that could end it.
package task

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Spec is what Run needs to know.
type Spec struct {
	Task    *api.Task
	Attempt int
	Runner  string   // name of the runner
	GPUs    []string // UUIDs; none means that the task sees no GPU
	// DrainFile is the path of the file that exists while the runner drains.
	DrainFile string

	Dir    string // working directory of the process
	Stdout string // paths of the output files, which are created
	Stderr string
	// OutputLimit is how many bytes of each output are kept, the first ones.
	OutputLimit int64
	// KillDelay is the time between TERM and KILL, and also how long Run waits
	// for the end of the output when the process has ended and something that
	// got away from it keeps the output open.
	KillDelay time.Duration
	// Environ is the runner's environment, as of os.Environ. What configures
	// the runner is left out for the task.
	Environ []string
}

// Run starts the process and waits for its end. When ctx ends, the process
// group gets TERM, and KILL after KillDelay; when kill ends, it gets KILL at
// once. In both cases the outcome is Interrupted, whatever exit status the
// task then chooses, with the cause of the context as the reason.
//
// When Run returns, nothing is left of the process group, nor of what has left
// it with the environment that it was given. A process that not
// even KILL ends, because it hangs in a driver, keeps Run from returning.
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
	stdout, err1 := newOutput(spec.Stdout, spec.OutputLimit)
	stderr, err2 := newOutput(spec.Stderr, spec.OutputLimit)
	defer func() {
		r.StdoutTruncated, r.StderrTruncated = stdout.close(), stderr.close()
	}()
	if err := errors.Join(err1, err2); err != nil {
		// Not the task's fault, so it must not cost it an attempt.
		r.Outcome, r.Reason = api.Interrupted, fmt.Sprintf("the runner could not keep the output: %v", err)
		return
	}

	env := environ(spec)
	path, err := lookPath(spec.Task.Command, spec.Dir, env)
	if err != nil {
		r.Outcome, r.Reason = api.Failed, err.Error()
		return
	}
	cmd := &exec.Cmd{
		Path:   path,
		Args:   append([]string{spec.Task.Command}, spec.Task.Args...),
		Env:    env,
		Dir:    spec.Dir,
		Stdout: stdout,
		Stderr: stderr,
		// A process that got away may hold the output open for ever;
		// without a limit Wait would wait as long. What is in the pipe already
		// needs a moment to be read.
		WaitDelay:   max(spec.KillDelay, time.Second),
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	exited, err := start(cmd)
	if err != nil {
		r.Outcome, r.Reason = api.Failed, fmt.Sprintf("command %s could not be started: %v", api.Excerpt(spec.Task.Command), err)
		return
	}
	stop := supervise(ctx, kill, cmd.Process.Pid, exited, time.Duration(spec.Task.Timeout), cmd.WaitDelay)
	endStrays(spec)
	err = cmd.Wait()
	classify(r, cmd, err, stop)
}

// start starts the command and returns a channel that is closed when its
// process has ended. The process is a zombie then, until cmd.Wait: its ID and
// that of its group cannot mean any other process before.
//
// The kernel sends the signal of Pdeathsig when the thread ends that started
// the process, not only with the runner. Hence the goroutine that does it
// keeps its thread until then.
func start(cmd *exec.Cmd) (exited <-chan struct{}, err error) {
	started, done := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		defer close(done)
		waitZombie(cmd.Process.Pid)
	}()
	return done, <-started
}

// waitZombie waits for the end of a child process without removing it.
func waitZombie(pid int) {
	var info unix.Siginfo
	for unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// stop says why a process was ended from here. Without an outcome it was not.
type stop struct {
	outcome api.Outcome
	reason  string
}

// supervise returns when the process has ended and its group is gone. Only
// the first reason to end it counts.
func supervise(ctx, kill context.Context, pid int, exited <-chan struct{}, timeout, delay time.Duration) stop {
	// What is left of the group goes with its leader, in whatever way it ended.
	defer unix.Kill(-pid, unix.SIGKILL)

	var timedOut <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		timedOut = timer.C
	}
	var why stop
	select {
	case <-exited:
		return stop{}
	case <-kill.Done():
		why = interrupted(kill)
	case <-ctx.Done():
		why = interrupted(ctx)
	case <-timedOut:
		why = stop{api.TimedOut, fmt.Sprintf("the timeout of %s ended it", timeout)}
	}
	select {
	case <-exited: // by itself, at the same time
		return stop{}
	default:
	}

	unix.Kill(-pid, unix.SIGTERM)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-exited:
		return why
	case <-kill.Done():
	case <-timer.C:
	}
	unix.Kill(-pid, unix.SIGKILL)
	<-exited
	return why
}

func interrupted(ctx context.Context) stop {
	return stop{api.Interrupted, "interrupted: " + context.Cause(ctx).Error()}
}

// classify fills in how the attempt ended. The error of Wait adds nothing to
// the state of the process but that the output was left open.
func classify(r *api.Result, cmd *exec.Cmd, waitErr error, why stop) {
	status, known := cmd.ProcessState.Sys().(syscall.WaitStatus)
	r.ExitCode = cmd.ProcessState.ExitCode() // -1 after a signal
	how := fmt.Sprintf("exit status %d", r.ExitCode)
	if known && status.Signaled() {
		r.Signal = unix.SignalName(status.Signal())
		how = "ended by " + r.Signal
	}
	switch {
	case why.outcome != "":
		r.Outcome, r.Reason = why.outcome, fmt.Sprintf("%s (%s)", why.reason, how)
	case cmd.ProcessState.Success():
		r.Outcome = api.Succeeded
		if errors.Is(waitErr, exec.ErrWaitDelay) {
			r.Reason = "a process that it left behind kept its output open; what that wrote later is not kept"
		}
	default:
		r.Outcome, r.Reason = api.Failed, how
	}
}
