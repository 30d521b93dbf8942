package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
)

// taskBench runs the real task script.
type taskBench struct {
	t     *testing.T
	env   embedded.Env
	notes chan targets.TaskNote
}

// newTaskBench makes a place, with a name that a careless script breaks on,
// and follows its journal until the test ends.
func newTaskBench(t *testing.T) *taskBench {
	t.Helper()
	dir := filepath.Join(t.TempDir(), `place $(false) "x'`)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b := &taskBench{t: t, env: newEnvWith(t, embedded.Config{TempDir: dir}, targets.Isolation{}), notes: make(chan targets.TaskNote, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.env.Journal(ctx, func(n targets.TaskNote) { b.notes <- n }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("follow journal: %v", err)
		}
	})
	return b
}

// start starts a task in a process group of its own, as a runner does.
func (b *taskBench) start(id string, spec scenario.Submit) *exec.Cmd {
	b.t.Helper()
	command, args, err := b.env.TaskCommand(spec)
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command(command, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "STUDIOML_TASK_ID=" + id, "STUDIOML_TASK_ATTEMPT=2",
		"STUDIOML_RUNNER=r1", "CUDA_VISIBLE_DEVICES=GPU-1,GPU-2"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	return cmd
}

func (b *taskBench) release(group string) {
	b.t.Helper()
	if err := b.env.Release(b.t.Context(), group); err != nil {
		b.t.Fatal(err)
	}
}

// next waits for the next note and checks it.
func (b *taskBench) next(id string, end bool) {
	b.t.Helper()
	want := targets.TaskNote{Task: id, Attempt: 2, Runner: "r1", End: end, GPUs: "GPU-1,GPU-2"}
	if diff := cmp.Diff(want, <-b.notes); diff != "" {
		b.t.Fatalf("note (-want +got):\n%s", diff)
	}
}

func TestHeldTasksWaitForRelease(t *testing.T) {
	b := newTaskBench(t)
	spec := scenario.Submit{Group: `a/b 'c" $(x)`, Hold: true}
	first := b.start("first", spec)
	b.next("first", false)
	second := b.start("second", spec)
	b.next("second", false)
	// A task that is not held passes them, so they had their chance to end.
	if err := b.start("free", scenario.Submit{}).Wait(); err != nil {
		t.Fatal(err)
	}
	b.next("free", false)
	b.next("free", true)

	b.release(string(spec.Group))
	if err := errors.Join(first.Wait(), second.Wait()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if note := <-b.notes; !note.End {
			t.Errorf("note is %+v, want an end", note)
		}
	}
	// Late ones pass, also those of a group that nobody had held yet.
	b.release("later")
	for _, group := range []scenario.Name{spec.Group, "later"} {
		if err := b.start("late", scenario.Submit{Group: group, Hold: true}).Wait(); err != nil {
			t.Fatal(err)
		}
		b.next("late", false)
		b.next("late", true)
	}
}

func TestTaskAndTERM(t *testing.T) {
	for _, test := range []struct {
		ignore bool
		want   string
	}{
		{ignore: false, want: "signal: terminated"},
		{ignore: true, want: "<nil>"},
	} {
		t.Run(fmt.Sprintf("ignore=%t", test.ignore), func(t *testing.T) {
			b := newTaskBench(t)
			cmd := b.start("task", scenario.Submit{Group: "g", Hold: true, IgnoreTerm: test.ignore})
			b.next("task", false)
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if test.ignore {
				b.release("g")
				b.next("task", true)
			}
			if got := fmt.Sprint(cmd.Wait()); got != test.want {
				t.Errorf("task ended with %s, want %s", got, test.want)
			}
		})
	}
}

func TestTaskFails(t *testing.T) {
	b := newTaskBench(t)
	err := b.start("task", scenario.Submit{Fail: true}).Wait()
	if got, want := fmt.Sprint(err), "exit status 1"; got != want {
		t.Errorf("task ended with %s, want %s", got, want)
	}
	b.next("task", false)
	b.next("task", true)
}

func TestJournalWaitsForWholeLines(t *testing.T) {
	b := newTaskBench(t)
	file, err := os.OpenFile(filepath.Join(b.env.Dir(), "journal"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	line := "start\tone\t2\tr1\tGPU-1,GPU-2\nend\tone\t2\tr1\tGPU-1,GPU-2\n"
	for _, part := range strings.SplitAfter(line, "n") { // in the middle of words
		if _, err := file.WriteString(part); err != nil {
			t.Fatal(err)
		}
	}
	b.next("one", false)
	b.next("one", true)
}

func TestTasksLast(t *testing.T) {
	b := newTaskBench(t)
	const lasts = 150 * time.Millisecond
	begun := time.Now()
	if err := b.start("task", scenario.Submit{Lasts: scenario.Duration(lasts)}).Wait(); err != nil {
		t.Fatal(err)
	}
	b.next("task", false)
	b.next("task", true)
	if took := time.Since(begun); took < lasts {
		t.Errorf("it took %s, want %s at least", took, lasts)
	}
}
