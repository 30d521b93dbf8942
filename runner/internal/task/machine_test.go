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
	"github.com/studioml/studio-go-runner/runner/internal/supervise"
	"github.com/studioml/studio-go-runner/runner/internal/task"
)

// userEnv makes the test binary a runner of a user who has nothing else, in the
// directory that it names.
const (
	userEnv = "TASK_TEST_USER"
	user    = 54321
)

// What the machine refuses, at whatever step of a start, is not the task's fault:
// the limit of descriptors grows until the task runs.
//
// catalogue: row 68
func TestDescriptorsAreUsedUp(t *testing.T) {
	spec := newSpec(t, shell("exit 0"))
	run(t, spec) // what is opened once
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	grow(t, func(n int) (api.Result, error) {
		limit := unix.Rlimit{Cur: uint64(max(3, len(entries)-8+n)), Max: old.Max}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return api.Result{}, err
		}
		defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
		return run(t, spec), nil
	})
}

// grow runs with more and more of something until the task runs.
func grow(t *testing.T, attempt func(n int) (api.Result, error)) {
	t.Helper()
	refused := 0
	for n := range 100 {
		switch r, err := attempt(n); {
		case err != nil:
			t.Fatal(err)
		case r.Outcome == api.MachineFailed && r.Reason != "":
			refused++
		case r.Outcome == api.Succeeded && refused > 0:
			return
		default:
			t.Fatalf("with %d more: %s (%s), after %d refusals", n, r.Outcome, r.Reason, refused)
		}
	}
	t.Fatal("the task never ran")
}

// asUser runs attempts as a user whose processes are counted, while the limit of
// them grows, and prints the outcomes. The runner's own threads count.
func asUser(dir string) {
	must := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	must(supervise.Prepare(24))
	must(os.Chown(dir, user, user))
	must(syscall.Setgroups(nil))
	must(syscall.Setgid(user))
	must(syscall.Setuid(user))
	threads, err := os.ReadDir("/proc/self/task")
	must(err)
	var old unix.Rlimit
	must(unix.Getrlimit(unix.RLIMIT_NPROC, &old))
	for n := range 200 { // threads may have come since, and the user may have other processes
		of := uint64(len(threads) + n)
		must(unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: of, Max: old.Max}))
		r := task.Run(context.Background(), context.Background(), task.Spec{
			Task: &api.Task{ID: "a", Command: "true"}, Dir: dir, Stdout: os.DevNull, Stderr: os.DevNull, Environ: os.Environ(),
		})
		fmt.Println(r.Outcome, r.Reason)
		if r.Outcome == api.Succeeded {
			break
		}
	}
	os.Exit(0)
}

// catalogue: row 68
func TestProcessesAreUsedUp(t *testing.T) {
	out := runAsUser(t, userEnv)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	refused := 0
	for _, l := range lines {
		if strings.HasPrefix(l, string(api.MachineFailed)) {
			refused++
		} else if strings.TrimSpace(l) != string(api.Succeeded) {
			t.Errorf("outcome %s", l)
		}
	}
	if refused < 2 || refused == len(lines) {
		t.Errorf("%d of %d were refused, want the supervisor's start and the task's, and not the last:\n%s", refused, len(lines), out)
	}
}

func runAsUser(t *testing.T, variable string) string {
	t.Helper()
	denied, _ := os.ReadFile("/proc/self/setgroups") // that of a user namespace made by an ordinary user
	if os.Getuid() != 0 || strings.HasPrefix(string(denied), "deny") {
		t.Skip("only root can become another user")
	}
	dir := t.TempDir()
	for path := dir; path != os.TempDir(); path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), variable+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// stuckEnv is for a task that becomes another user's, as a setuid program can.
const stuckEnv = "TASK_TEST_STUCK"

func stuck(dir string) {
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	// Root may become anybody; the rest of this process is an ordinary user.
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		panic(err)
	}
	program, err := os.ReadFile(setpriv)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "setpriv"), program, 0o755)
	}
	if err == nil {
		err = os.Chmod(filepath.Join(dir, "setpriv"), 0o755|os.ModeSetuid)
	}
	for _, pipe := range []string{"begun", "end"} {
		err = errors.Join(err, unix.Mkfifo(filepath.Join(dir, pipe), 0o666), os.Chmod(filepath.Join(dir, pipe), 0o666))
	}
	if err == nil {
		err = syscall.Setuid(user)
	}
	if err != nil {
		panic(err)
	}
	told := make(chan int, 10)
	ctx, terminate := context.WithCancel(context.Background())
	begin := time.Now()
	go func() {
		os.ReadFile(filepath.Join(dir, "begun"))
		if os.Getenv(unsupervisedEnv) == "" {
			terminate()
		} else {
			killChildren()
		}
	}()
	r := task.Run(ctx, context.Background(), task.Spec{
		Task: &api.Task{ID: "a", Command: filepath.Join(dir, "setpriv"), Args: []string{"--reuid=65534", "--clear-groups", "sh", "-c", "echo >begun; read x <end"}},
		Dir:  dir, Stdout: os.DevNull, Stderr: os.DevNull, Environ: os.Environ(),
		Stuck: func(pid int, user string) {
			fmt.Println("stuck", user, time.Since(begin) > time.Second)
			if told <- pid; len(told) == 1 {
				go os.WriteFile(filepath.Join(dir, "end"), []byte("\n"), 0)
			}
		},
	})
	fmt.Println(r.Outcome, len(told), unix.Kill(<-told, 0))
	os.Exit(0)
}

// unsupervisedEnv is for one whose supervisor is killed.
const unsupervisedEnv = "TASK_TEST_UNSUPERVISED"

func killChildren() {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for pid := range strings.FieldsSeq(string(text)) {
			n, _ := strconv.Atoi(pid)
			unix.Kill(n, unix.SIGKILL)
		}
	}
}

// Nobody may kill it, so Run waits for it, and says once which process of whom.
//
// catalogue: row 74
func TestAProcessCannotBeEnded(t *testing.T) {
	want := "stuck nobody true\nInterrupted 1 no such process\n"
	if got := runAsUser(t, stuckEnv); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	t.Setenv(unsupervisedEnv, "1")
	want = "stuck nobody true\nFailed 1 no such process\n"
	if got := runAsUser(t, stuckEnv); got != want {
		t.Errorf("without its supervisor: got %q, want %q", got, want)
	}
}
