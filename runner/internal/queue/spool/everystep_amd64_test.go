package spool_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

// cycleEnv makes the test binary a process that takes tasks through all that can
// become of them, and says what it knows to be done.
const cycleEnv = "SPOOL_TEST_CYCLE"

func cycleTasks() []*api.Task {
	return []*api.Task{{ID: "a", Command: "true"}, {ID: "b", Command: "true", MaxAttempts: 1}, {ID: "c", Command: "true"},
		{ID: "d", Command: "true"}, {ID: "e", Command: "true", Priority: -1}}
}

func cycle(dir string) {
	ctx := context.Background()
	s, err := spool.Open(dir, spool.Options{Runner: "child", Rescan: time.Hour})
	must(err)
	_, err = s.Submit(ctx, cycleTasks())
	must(err)
	fmt.Println("submitted")
	end := func(outcome api.Outcome) {
		d, err := s.Fetch(ctx, anyClass)
		must(err)
		n, err := d.Begin([]string{"GPU-1"})
		must(err)
		if d.Task().ID == "c" {
			must(s.Cancel(ctx, "c"))
			fmt.Println("cancelled")
		}
		must(finish(d, n, outcome))
	}
	end(api.Succeeded)
	fmt.Println("finished")
	end(api.Failed)
	fmt.Println("dead")
	end(api.Failed)
	must(s.Again(ctx, "b"))
	fmt.Println("again")
	end(api.Interrupted) // d
	end(api.Succeeded)   // d
	end(api.Interrupted) // b
	end(api.Succeeded)   // b
	end(api.Failed)      // e, which pauses
	must(s.Close())
	os.Exit(0)
}

// stopAt runs what a variable of the environment says, in a process that is stopped before
// its n-th call of a kind, for do. It returns what the process said, and whether it came
// that far.
func stopAt(t *testing.T, env string, kind func(call uint64, arg func(int) uint64) bool, n int, do func(pid int)) (said string, stopped bool) {
	t.Helper()
	runtime.LockOSThread() // a process is traced by one thread
	defer runtime.UnlockOSThread()
	var out bytes.Buffer
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), env)
	cmd.Stdout, cmd.SysProcAttr = write, &syscall.SysProcAttr{Ptrace: true, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Skipf("nothing can be traced here: %v", err)
	}
	write.Close()
	pid := cmd.Process.Pid
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil {
		t.Fatal(err)
	}
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_EXITKILL); err != nil {
		t.Fatal(err)
	}
	if err := unix.PtraceSyscall(pid, 0); err != nil {
		t.Fatal(err)
	}
	for {
		tid, err := unix.Wait4(-pid, &status, unix.WALL, nil)
		if err == unix.ECHILD {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		pass := 0
		switch {
		case !status.Stopped():
			if tid == pid && status.Exited() && status.ExitStatus() != 0 {
				out.ReadFrom(read)
				t.Fatalf("the cycle ended with %d: %s", status.ExitStatus(), out.String())
			}
			continue
		case status.StopSignal() == unix.SIGTRAP|0x80:
			if call, arg := begins(tid); arg != nil && kind(call, arg) {
				if n--; n == 0 {
					stopped = true
					do(pid)
				}
			}
		case status.StopSignal() != unix.SIGTRAP && status.StopSignal() != unix.SIGSTOP:
			pass = int(status.StopSignal())
		}
		unix.PtraceSyscall(tid, pass) // it may just have been killed
	}
	cmd.Process.Release()
	out.ReadFrom(read)
	return out.String(), stopped
}

// begins says which call a thread is about to make, if it is about to make one.
func begins(tid int) (call uint64, arg func(int) uint64) {
	const getSyscallInfo, entry = 0x420e, 1
	var info [88]byte // struct ptrace_syscall_info
	if _, _, err := unix.Syscall6(unix.SYS_PTRACE, getSyscallInfo, uintptr(tid), uintptr(len(info)), uintptr(unsafe.Pointer(&info)), 0, 0); err != 0 || info[0] != entry {
		return 0, nil
	}
	return binary.NativeEndian.Uint64(info[24:]), func(i int) uint64 { return binary.NativeEndian.Uint64(info[32+8*i:]) }
}

// lists says whether a call reads a directory.
func lists(call uint64, _ func(int) uint64) bool { return call == unix.SYS_GETDENTS64 }

// changes says whether a call changes a file.
func changes(call uint64, arg func(int) uint64) bool {
	switch call {
	case unix.SYS_RENAME, unix.SYS_RENAMEAT, unix.SYS_LINK, unix.SYS_LINKAT, unix.SYS_UNLINK, unix.SYS_UNLINKAT, unix.SYS_MKDIR, unix.SYS_MKDIRAT,
		unix.SYS_RMDIR, unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_FSYNC, unix.SYS_SYNCFS, unix.SYS_UTIMENSAT:
		return true
	case unix.SYS_OPENAT:
		return arg(2)&unix.O_CREAT != 0
	case unix.SYS_WRITE:
		return arg(0) > 2 && arg(2) > 8 // and no event of the Go runtime
	}
	return false
}

// Whatever call is the last one of a runner and its owners, nothing is lost, what
// was said to be done is done, and of each task one result is accepted.
func TestAKillAtEveryStep(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a process for each of more than a hundred steps")
	}
	// One in three, each time others: tracing takes long.
	const each = 3
	var step atomic.Int64
	step.Store(rand.Int64N(each) + 1 - each)
	var over atomic.Bool
	var workers sync.WaitGroup
	for range 8 { // a look at what is left may wait for a pause
		workers.Go(func() {
			for !over.Load() && !t.Failed() {
				dir, n := t.TempDir(), int(step.Add(each))
				said, killed := stopAt(t, cycleEnv+"="+dir, changes, n, func(pid int) { unix.Kill(pid, unix.SIGKILL) })
				if !killed {
					over.Store(true)
				}
				judge(t, dir, fmt.Sprintf("killed at step %d, after it said %q", n, strings.Fields(said)), said)
			}
		})
	}
	workers.Wait()
	if n := step.Load(); n < 100 && !t.Failed() {
		t.Errorf("%d steps change files, want more than a hundred", n)
	}
}

// againEnv makes the test binary a process that retries a task.
const againEnv = "SPOOL_TEST_AGAIN"

func again(dir string) {
	s, err := spool.Open(dir, spool.Options{})
	must(err)
	if err := s.Again(context.Background(), "a"); !errors.Is(err, queue.ErrWaits) {
		must(err)
	}
	must(s.Close())
	os.Exit(0)
}

// However long a retry is held up, and wherever: what the next run of the task comes to
// is no matter of the retry any more. If it is killed there, the task has an end, or waits.
func TestARetryHeldUpAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, before := range []api.TaskState{api.TaskDead, api.TaskFinished, api.TaskCancelled} {
		ran := 0
		for n, stopped := 1, true; stopped; n++ {
			when := fmt.Sprintf("%s, held up at step %d", before, n)
			s, dir := ended(t, before)
			failed := false
			_, stopped = stopAt(t, againEnv+"="+dir, changes, n, func(int) {
				ctx, cancel := context.WithTimeout(t.Context(), 2*rescan)
				defer cancel()
				failed = runOnce(ctx, t, s, api.Failed)
			})
			want := api.TaskWaiting
			if failed {
				want, ran = api.TaskDead, ran+1
			}
			is(t, s, when, want)

			s, dir = ended(t, before)
			stopAt(t, againEnv+"="+dir, changes, n, func(pid int) { unix.Kill(pid, unix.SIGKILL) })
			all, err := s.List(t.Context())
			if err != nil || len(all) != 1 || !slices.Contains([]api.TaskState{api.TaskWaiting, api.TaskDead, before}, all[0].State) {
				t.Fatalf("%s, and killed: the list is %+v, %v", when, all, err)
			}
			is(t, s, when+", and killed", all[0].State)
		}
		if ran == 0 {
			t.Errorf("%s: the task ran in no step of its retry", before)
		}
	}
}

// A runner died when it had buried a task, and the task comes back from it just when it is
// retried: it must not be in the queue twice.
func TestARetryOfATaskThatComesBack(t *testing.T) {
	t.Parallel()
	back := 0
	for n, stopped := 1, true; stopped; n++ {
		dir := t.TempDir()
		dead, s := open(t, dir, "dead"), open(t, dir, "r")
		submit(t, s, api.Task{ID: "a", MaxAttempts: 1})
		begin(t, fetch(t, dead, "a"))
		must(os.WriteFile(filepath.Join(dir, "dead", "a.json"), []byte(`{"reason": "attempt 1: it failed"}`), 0o600))
		dead.Crash()
		_, stopped = stopAt(t, againEnv+"="+dir, lists, n, func(int) { s.Reclaim() })
		waits := globs(t, dir, "ready/*/*-a.json")
		if stopped {
			back += waits
		}
		if files := waits + globs(t, dir, "held/*-a.json"); files != 1 {
			t.Errorf("back at step %d: the task is in the queue %d times", n, files)
		}
	}
	if back == 0 {
		t.Error("the task came back in no step of its retry")
	}
}

// ended makes a spool with a task that has ended.
func ended(t *testing.T, how api.TaskState) (s *spool.Spool, dir string) {
	dir = t.TempDir()
	s = open(t, dir, "r")
	submit(t, s, api.Task{ID: "a", MaxAttempts: 1})
	switch how {
	case api.TaskDead:
		runOnce(t.Context(), t, s, api.Failed)
	case api.TaskFinished:
		runOnce(t.Context(), t, s, api.Succeeded)
	case api.TaskCancelled:
		must(s.Cancel(t.Context(), "a"))
	}
	is(t, s, "at first", how)
	return s, dir
}

// runOnce runs a task, if there is one.
func runOnce(ctx context.Context, t *testing.T, s *spool.Spool, outcome api.Outcome) bool {
	d, err := s.Fetch(ctx, anyClass)
	if err != nil {
		return false
	}
	n, err := d.Begin(nil)
	if err = cmp.Or(err, finish(d, n, outcome)); err != nil {
		t.Fatal(err)
	}
	return true
}

// is requires the state of the only task, asked for in both ways.
func is(t *testing.T, s *spool.Spool, when string, want api.TaskState) {
	t.Helper()
	for _, ids := range [][]string{nil, {"a"}} {
		all, err := s.List(t.Context(), ids...)
		if err != nil || len(all) != 1 || all[0].State != want {
			t.Errorf("%s: the list of %v is %+v, %v, want %s", when, ids, all, err, want)
		} else if want == api.TaskDead && !strings.HasPrefix(all[0].Reason, "attempt ") && !strings.Contains(all[0].Reason, "a retry was interrupted") {
			t.Errorf("%s: the reason is %q", when, all[0].Reason)
		}
	}
}

// judge looks at what a killed process left, and lets another one go on.
func judge(t *testing.T, dir, when, said string) {
	t.Helper()
	s := open(t, dir, "judge")
	before, err := s.List(t.Context())
	if err != nil {
		t.Errorf("%s: %v", when, err)
	}
	if strings.Contains(said, "submitted") && len(before) != len(cycleTasks()) {
		t.Errorf("%s: the tasks are %+v", when, before)
	}
	if _, err := s.Submit(t.Context(), cycleTasks()); err != nil {
		t.Errorf("%s: the same again: %v", when, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	state := map[string]api.TaskState{}
	for {
		all, err := s.List(ctx)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		open := 0
		for _, task := range all {
			state[task.ID] = task.State
			if !task.State.Ended() {
				open++
			}
		}
		if open == 0 {
			break
		}
		d, err := s.Fetch(ctx, anyClass)
		if err == nil {
			var n int
			if n, err = d.Begin(nil); err == nil {
				err = finish(d, n, api.Succeeded)
			}
		}
		if err != nil {
			t.Fatalf("%s: %d tasks are open: %v", when, open, err)
		}
	}
	may := map[string][]api.TaskState{
		"a": {api.TaskFinished}, "b": {api.TaskFinished, api.TaskDead}, "c": {api.TaskFinished, api.TaskCancelled}, "d": {api.TaskFinished}, "e": {api.TaskFinished},
	}
	if strings.Contains(said, "again") {
		may["b"] = may["b"][:1]
	}
	if strings.Contains(said, "cancelled") {
		may["c"] = may["c"][1:]
	}
	for id, states := range may {
		if !slices.Contains(states, state[id]) {
			t.Errorf("%s: %s is %s, want one of %v", when, id, state[id], states)
		}
		results, err := s.Results(t.Context(), id)
		accepted := 0
		for _, r := range results {
			if r.Outcome == api.Succeeded {
				accepted++
			}
		}
		if want := map[bool]int{true: 1}[state[id] == api.TaskFinished]; err != nil || accepted != want {
			t.Errorf("%s: %s is %s and has %d results that were accepted, %v", when, id, state[id], accepted, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("%s: close: %v", when, err)
	}
	for _, pattern := range []string{"held/*", "ready/*/*", "results/*/*/checkpoint"} {
		if left, err := filepath.Glob(filepath.Join(dir, pattern)); err != nil || len(left) > 0 && state["b"] == api.TaskFinished && state["c"] == api.TaskFinished {
			t.Errorf("%s: left %v, %v", when, left, err)
		}
	}
	if _, err := s.Fetch(ctx, anyClass); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s: fetch of a closed spool: %v", when, err)
	}
}
