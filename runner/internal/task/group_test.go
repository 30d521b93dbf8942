package task_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/task"
)

// runnerEnv makes the test binary a runner that runs the shell script in it.
const runnerEnv = "TASK_TEST_RUNNER"

func TestMain(m *testing.M) {
	if script := os.Getenv(runnerEnv); script != "" {
		task.Run(context.Background(), context.Background(), task.Spec{
			Task: shell(script), Dir: "/", Stdout: os.DevNull, Stderr: os.DevNull, Environ: os.Environ(),
		})
		os.Exit(0)
	}
	// All of them take seconds; a lock or a process that is never released would
	// hold them up for ten minutes.
	time.AfterFunc(3*time.Minute, func() { panic("the tests hang") })
	os.Exit(m.Run())
}

// pidPipe is a named pipe through which a script tells a process ID; opening
// and reading it waits until it does.
type pidPipe string

func newPidPipe(t *testing.T) pidPipe {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pid")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return pidPipe(path)
}

func (p pidPipe) read(t *testing.T) int {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(read(t, string(p))))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// waitGone waits until a process has ended. A zombie has: its parent may be a
// container's first process, which may not collect it.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	var state string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			return
		}
		// 12 (sh) S 1 …
		state = string(text)
		if fields := strings.Fields(state[strings.LastIndexByte(state, ')')+1:]); fields[0] == "Z" || fields[0] == "X" {
			return
		}
	}
	syscall.Kill(pid, syscall.SIGKILL)
	t.Errorf("process still lives: %s", state)
}

// started runs the spec, and returns when its script has told an ID.
func started(t *testing.T, spec task.Spec, pids pidPipe) (pid int, terminate, kill context.CancelCauseFunc, result func() api.Result) {
	t.Helper()
	terminateCtx, terminate := context.WithCancelCause(t.Context())
	killCtx, kill := context.WithCancelCause(context.Background())
	t.Cleanup(func() { kill(nil) })
	results := make(chan api.Result, 1)
	go func() { results <- task.Run(terminateCtx, killCtx, spec) }()
	return pids.read(t), terminate, kill, func() api.Result { return <-results }
}

func wantInterrupted(t *testing.T, got api.Result, signal, cause string) {
	t.Helper()
	if got.Outcome != api.Interrupted || got.Signal != signal || !strings.Contains(got.Reason, cause) {
		t.Errorf("%s, signal %q (%s); want Interrupted, %q and the cause", got.Outcome, got.Signal, got.Reason, signal)
	}
}

func TestTerminate(t *testing.T) {
	pids := newPidPipe(t)
	// The background process, too, gets TERM and is what the task waits for. It
	// is started before the trap: a fork of a shell with a trap loses a TERM
	// that comes before its exec.
	spec := newSpec(t, shell(fmt.Sprintf(`sleep 1000 & trap 'wait; exit 0' TERM; echo $! >%s; wait`, pids)))
	pid, terminate, _, result := started(t, spec, pids)
	terminate(errors.New("the grace period is over"))
	got := result()
	wantInterrupted(t, got, "", "the grace period is over")
	if got.ExitCode != 0 {
		t.Errorf("exit code is %d, want the 0 that the task chose", got.ExitCode)
	}
	waitGone(t, pid)
}

func TestTerminateThenKillAfterDelay(t *testing.T) {
	pids := newPidPipe(t)
	spec := newSpec(t, shell(fmt.Sprintf(`trap '' TERM; echo $$ >%s; while :; do sleep 0.05; done`, pids)))
	spec.KillDelay = 100 * time.Millisecond
	_, terminate, _, result := started(t, spec, pids)
	terminate(errors.New("the grace period is over"))
	got := result()
	wantInterrupted(t, got, "SIGKILL", "the grace period is over")
	if took := got.Finished.Sub(got.Started); took < spec.KillDelay {
		t.Errorf("killed after %s, want the delay of %s to be kept", took, spec.KillDelay)
	}
}

// The delay of these is an hour.
func TestKillAtOnce(t *testing.T) {
	for _, terminateFirst := range []bool{false, true} {
		t.Run(fmt.Sprint("terminate first ", terminateFirst), func(t *testing.T) {
			pids := newPidPipe(t)
			spec := newSpec(t, shell(fmt.Sprintf(`trap '' TERM; echo $$ >%s; while :; do sleep 0.05; done`, pids)))
			_, terminate, kill, result := started(t, spec, pids)
			if terminateFirst {
				terminate(errors.New("the first signal"))
			}
			kill(errors.New("the second signal"))
			wantInterrupted(t, result(), "SIGKILL", "signal") // the first or the second: Run may see both at once
		})
	}
}

// timedOut runs a script that sets a trap. The timeout may come before the
// trap on a busy machine; then the script gets more time.
func timedOut(t *testing.T, trap string, killDelay time.Duration) api.Result {
	t.Helper()
	for timeout := 50 * time.Millisecond; ; timeout *= 4 {
		of := shell(trap + "; touch ready; while :; do sleep 0.01; done")
		of.Timeout = api.Duration(timeout)
		spec := newSpec(t, of)
		spec.KillDelay = killDelay
		got := run(t, spec)
		if _, err := os.Stat(filepath.Join(spec.Dir, "ready")); err == nil || timeout > 10*time.Second {
			return got
		}
	}
}

func TestTimeoutOutweighsExit0(t *testing.T) {
	got := timedOut(t, "trap 'exit 0' TERM", time.Hour)
	if got.Outcome != api.TimedOut || got.ExitCode != 0 || got.Signal != "" {
		t.Errorf("%s, exit code %d, signal %q (%s); want TimedOut, 0, none", got.Outcome, got.ExitCode, got.Signal, got.Reason)
	}
}

func TestTimeoutKillsAfterDelay(t *testing.T) {
	got := timedOut(t, "trap '' TERM", 50*time.Millisecond)
	if got.Outcome != api.TimedOut || got.Signal != "SIGKILL" {
		t.Errorf("%s, signal %q (%s); want TimedOut, SIGKILL", got.Outcome, got.Signal, got.Reason)
	}
}

// What the task leaves in its group ends with it, TERM or no TERM, and does not
// hold up Run although it has the output open.
func TestNoSurvivor(t *testing.T) {
	pids := newPidPipe(t)
	spec := newSpec(t, shell(fmt.Sprintf(`(trap '' TERM; while :; do sleep 0.05; done) & echo $! >%s; exit 0`, pids)))
	pid, _, _, result := started(t, spec, pids)
	if got := result(); got.Outcome != api.Succeeded || got.Reason != "" {
		t.Errorf("%s (%s), want Succeeded", got.Outcome, got.Reason)
	}
	waitGone(t, pid)
}

// Nor does what has left the group survive, with a session of its own and a
// parent that is gone; another attempt's does.
func TestNoStrayOutsideTheGroup(t *testing.T) {
	pids, others := newPidPipe(t), newPidPipe(t)
	stray := `(setsid sh -c 'echo $$ >%s; exec sleep 1000' >/dev/null 2>&1 &) ; read x <%[1]s.go`
	other := newSpec(t, shell(fmt.Sprintf(stray, others)))
	spec := newSpec(t, shell(fmt.Sprintf(stray, pids)))
	other.DrainFile, other.Attempt = spec.DrainFile, 2
	for _, p := range []pidPipe{pids, others} {
		if err := unix.Mkfifo(string(p)+".go", 0o600); err != nil {
			t.Fatal(err)
		}
	}
	otherPid, _, _, otherResult := started(t, other, others)
	pid, _, _, result := started(t, spec, pids)
	if err := os.WriteFile(string(pids)+".go", []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := result(); got.Outcome != api.Succeeded || got.Reason != "" {
		t.Errorf("%s (%s), want Succeeded", got.Outcome, got.Reason)
	}
	waitGone(t, pid)
	if err := syscall.Kill(otherPid, 0); err != nil {
		t.Errorf("the other attempt's process: %v", err)
	}
	if err := os.WriteFile(string(others)+".go", []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	otherResult()
	waitGone(t, otherPid)
}

// A process that has left the group and its environment cannot be ended, but
// Run does not wait for it.
func TestOutputLeftOpen(t *testing.T) {
	pids := newPidPipe(t)
	spec := newSpec(t, shell(fmt.Sprintf(`env -i setsid sh -c 'echo $$ >%s; exec sleep 1000' & echo done; read x <%[1]s.go`, pids)))
	if err := unix.Mkfifo(string(pids)+".go", 0o600); err != nil {
		t.Fatal(err)
	}
	spec.KillDelay = 100 * time.Millisecond
	pid, _, _, result := started(t, spec, pids)
	defer syscall.Kill(pid, syscall.SIGKILL)
	if err := os.WriteFile(string(pids)+".go", []byte("\n"), 0o600); err != nil { // it is out of the group now
		t.Fatal(err)
	}
	if got := result(); got.Outcome != api.Succeeded || !strings.Contains(got.Reason, "left behind") {
		t.Errorf("%s (%s), want Succeeded with a remark", got.Outcome, got.Reason)
	}
	if got := read(t, spec.Stdout); got != "done\n" {
		t.Errorf("stdout is %q", got)
	}
}

// A runner that is killed takes its task along.
func TestRunnerKilled(t *testing.T) {
	pids := newPidPipe(t)
	runner := exec.Command(os.Args[0])
	runner.Env = append(os.Environ(), fmt.Sprintf("%s=echo $$ >%s; exec sleep 1000", runnerEnv, pids))
	if err := runner.Start(); err != nil {
		t.Fatal(err)
	}
	pid := pids.read(t)
	if err := runner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	runner.Wait()
	waitGone(t, pid)
}
