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
const (
	runnerEnv = "TASK_TEST_RUNNER"
	lockEnv   = "TASK_TEST_LOCK" // and hold this lock meanwhile
)

func TestMain(m *testing.M) {
	if script := os.Getenv(runnerEnv); script != "" {
		lock, err := os.OpenFile(os.Getenv(lockEnv), os.O_RDWR|os.O_CREATE, 0o600)
		if err == nil {
			err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
		}
		if err != nil {
			panic(err)
		}
		task.Run(context.Background(), context.Background(), task.Spec{
			Task: shell(script), Dir: "/", Stdout: os.DevNull, Stderr: os.DevNull, Environ: os.Environ(),
			KillDelay: time.Hour, Held: []*os.File{lock},
		})
		os.Exit(0)
	}
	if dir := os.Getenv(userEnv); dir != "" {
		asUser(dir)
	}
	if dir := os.Getenv(stuckEnv); dir != "" {
		stuck(dir)
	}
	// All of them take seconds; a lock or a process that is never released would
	// hold them up for ten minutes.
	time.AfterFunc(8*time.Minute, func() { panic("the tests hang") })
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
			spec := newSpec(t, shell(fmt.Sprintf(`trap 'echo $$ >%s' TERM; echo $$ >%[1]s; while :; do sleep 0.05; done`, pids)))
			_, terminate, kill, result := started(t, spec, pids)
			cause := "the second signal"
			if terminateFirst {
				cause = "the first signal"
				terminate(errors.New(cause))
				pids.read(t) // it has got TERM
			}
			kill(errors.New("the second signal"))
			wantInterrupted(t, result(), "SIGKILL", cause)
		})
	}
}

// timedOut runs a script that sets a trap. The timeout may come before the
// trap on a busy machine; then the script gets more time.
func timedOut(t *testing.T, trap string, killDelay time.Duration, drained func() bool) api.Result {
	t.Helper()
	for timeout := 50 * time.Millisecond; ; timeout *= 4 {
		of := shell(trap + "; touch ready; while :; do sleep 0.01; done")
		of.Timeout = api.Duration(timeout)
		spec := newSpec(t, of)
		spec.KillDelay, spec.Drained = killDelay, drained
		got := run(t, spec)
		if _, err := os.Stat(filepath.Join(spec.Dir, "ready")); err == nil || timeout > 10*time.Second {
			return got
		}
	}
}

func TestTimeoutOutweighsExit0(t *testing.T) {
	got := timedOut(t, "trap 'exit 0' TERM", time.Hour, nil)
	if got.Outcome != api.TimedOut || got.ExitCode != 0 || got.Signal != "" {
		t.Errorf("%s, exit code %d, signal %q (%s); want TimedOut, 0, none", got.Outcome, got.ExitCode, got.Signal, got.Reason)
	}
}

func TestTimeoutKillsAfterDelay(t *testing.T) {
	got := timedOut(t, "trap '' TERM", 50*time.Millisecond, nil)
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

// Whatever a process does to get away, it is gone when Run returns, and has not
// held it up: sessions, environments, and parents that are gone.
//
// catalogue: row 71
func TestNoDaemonIsLeft(t *testing.T) {
	for name, daemon := range map[string]string{
		"own session":      `setsid sh -c 'echo $$ >%s; exec sleep 1000' &`,
		"no environment":   `env -i /bin/sh -c 'setsid /bin/sh -c "echo \$\$ >%s; exec /bin/sleep 1000" &'`,
		"no parent":        `(setsid sh -c '(trap "" TERM HUP; echo $(exec sh -c "echo \$PPID") >%s; while :; do sleep 0.05; done) & exit' &)`,
		"no output":        `setsid sh -c 'echo $$ >%s; exec sleep 1000 >/dev/null 2>&1 </dev/null' &`,
		"keeps respawning": `(setsid sh -c 'while :; do sh -c "echo \$\$; exec sleep 1000"; done >>%s.log & echo $! >%[1]s' &)`,
	} {
		t.Run(name, func(t *testing.T) {
			pids := newPidPipe(t)
			if err := unix.Mkfifo(string(pids)+".go", 0o600); err != nil {
				t.Fatal(err)
			}
			spec := newSpec(t, shell(fmt.Sprintf(daemon+"\nread x <%[1]s.go", pids)))
			pid, _, _, result := started(t, spec, pids)
			if err := os.WriteFile(string(pids)+".go", []byte("\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := result(); got.Outcome != api.Succeeded || got.Reason != "" {
				t.Errorf("%s (%s), want Succeeded", got.Outcome, got.Reason)
			}
			wantGone(t, pid)
		})
	}
}

// wantGone requires that a process is gone already, and not a zombie either.
func wantGone(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		syscall.Kill(pid, syscall.SIGKILL)
		t.Errorf("process %d is still there: %s", pid, state)
	}
}

// The kill delay is that of all processes, and not over when the first has obeyed.
//
// catalogue: row 72
func TestTheKillDelayIsTheGroups(t *testing.T) {
	for name, child := range map[string]string{"in the group": "", "in its own session": "setsid"} {
		t.Run(name, func(t *testing.T) {
			pids := newPidPipe(t)
			spec := newSpec(t, shell(fmt.Sprintf(`%s sh -c 'trap "sleep 0.2; touch saved; exit" TERM; echo $$ >%s; while :; do sleep 0.01; done'; echo done`,
				child, pids)))
			pid, terminate, _, result := started(t, spec, pids)
			terminate(errors.New("the grace period is over"))
			wantInterrupted(t, result(), "SIGTERM", "the grace period is over")
			if _, err := os.Stat(filepath.Join(spec.Dir, "saved")); err != nil {
				t.Errorf("the child could not finish its work: %v", err)
			}
			wantGone(t, pid)
		})
	}
}

// A task that ends its supervisor ends itself, and no other.
func TestTheSupervisorIsKilled(t *testing.T) {
	others := newPidPipe(t)
	_, end, _, other := started(t, newSpec(t, shell(fmt.Sprintf(`trap 'exit 5' TERM; echo $$ >%s; while :; do sleep 0.05; done`, others))), others)
	pids := newPidPipe(t)
	spec := newSpec(t, shell(fmt.Sprintf(`(setsid sh -c 'trap "" TERM; echo $$ >%s; while :; do sleep 0.05; done' &); read x <%[1]s.go; kill -9 $PPID; sleep 1000`, pids)))
	if err := unix.Mkfifo(string(pids)+".go", 0o600); err != nil {
		t.Fatal(err)
	}
	pid, _, _, result := started(t, spec, pids)
	if err := os.WriteFile(string(pids)+".go", []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := result(); got.Outcome != api.Failed || !strings.Contains(got.Reason, "supervisor") {
		t.Errorf("%s (%s), want Failed because of the supervisor", got.Outcome, got.Reason)
	}
	wantGone(t, pid)
	end(errors.New("asked"))
	if got := other(); got.Outcome != api.Interrupted || got.ExitCode != 5 {
		t.Errorf("the other one: %s, exit code %d (%s), want that it ended when it was asked", got.Outcome, got.ExitCode, got.Reason)
	}
}

// Also when it was asked to end: then that is why it ended.
func TestTheSupervisorIsKilledAtTheEnd(t *testing.T) {
	pids := newPidPipe(t)
	spec := newSpec(t, shell(fmt.Sprintf(`trap 'kill -9 $PPID' TERM; echo $$ >%s; while :; do sleep 0.05; done`, pids)))
	pid, terminate, _, result := started(t, spec, pids)
	terminate(errors.New("the grace period is over"))
	got := result()
	wantInterrupted(t, got, "", "the grace period is over")
	if !strings.Contains(got.Reason, "supervisor") {
		t.Errorf("reason %q, want the supervisor in it", got.Reason)
	}
	wantGone(t, pid)
}

// A runner that is killed takes its task along, and what that has started. Until
// then nobody else gets the lock that the runner held, and what it writes in its last
// time blocks nothing.
//
// catalogue: row 71
func TestRunnerKilled(t *testing.T) {
	pids := newPidPipe(t)
	path := filepath.Join(t.TempDir(), "lock")
	runner := exec.Command(os.Args[0])
	runner.Env = append(os.Environ(), lockEnv+"="+path, runnerEnv+"="+fmt.Sprintf(
		`(setsid sh -c 'trap "head -c 200000 /dev/zero; read x <%s.go; exit" TERM; echo $$ >%[1]s; while :; do sleep 0.01; done' &); exec sleep 1000`, pids))
	if err := unix.Mkfifo(string(pids)+".go", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := runner.Start(); err != nil {
		t.Fatal(err)
	}
	pid := pids.read(t)
	lock := openLock(t, path)
	if err := runner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	runner.Wait()
	last, err := os.OpenFile(string(pids)+".go", os.O_WRONLY, 0) // opens when the daemon has got TERM
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("the lock of an attempt that lives: %v, want it held", err)
	}
	last.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil { // waits
		t.Fatal(err)
	}
	waitGone(t, pid) // init may be slow to collect it
}

// A supervisor that was stopped when its runner is killed goes on then.
func TestRunnerKilledAndTheSupervisorStopped(t *testing.T) {
	pids := newPidPipe(t)
	runner := exec.Command(os.Args[0])
	runner.Env = append(os.Environ(), lockEnv+"="+filepath.Join(t.TempDir(), "lock"),
		runnerEnv+"="+fmt.Sprintf("kill -STOP $PPID; echo $$ >%s; exec sleep 1000", pids))
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

func TestTheTaskInheritsNothing(t *testing.T) {
	leak, err := unix.Open("/dev/zero", unix.O_RDONLY, 0) // without O_CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	spec := newSpec(t, shell("ls -l /proc/self/fd; cat /proc/self/status"))
	spec.Held = []*os.File{openLock(t, filepath.Join(t.TempDir(), "lock"))}
	if got := run(t, spec); got.Outcome != api.Succeeded {
		t.Fatal(got.Reason)
	}
	text := read(t, spec.Stdout)
	if got := strings.Count(text, " -> "); got != 4 { // the last one is ls's own
		t.Errorf("the task has %d open files, want 3 and one of ls:\n%s", got, text)
	}
	for _, line := range []string{"SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"} {
		if !strings.Contains(text, line) {
			t.Errorf("the task inherits signals, want %q in\n%s", line, text)
		}
	}
}

func openLock(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
