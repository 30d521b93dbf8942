package task_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/task"
)

// shell is a task whose command happens to be a shell.
func shell(script string) *api.Task {
	return &api.Task{ID: "a", Command: "sh", Args: []string{"-c", script}}
}

// newSpec fills in what most tests do not care about. KillDelay is so long
// that a test which gets there by mistake does not end in time.
func newSpec(t *testing.T, of *api.Task) task.Spec {
	t.Helper()
	dir := t.TempDir()
	scratch := filepath.Join(dir, "scratch")
	if err := os.Mkdir(scratch, 0o755); err != nil {
		t.Fatal(err)
	}
	return task.Spec{
		Task: of, Attempt: 1, Runner: "r", DrainFile: filepath.Join(dir, "drain"),
		Dir: scratch, Stdout: filepath.Join(dir, "stdout"), Stderr: filepath.Join(dir, "stderr"),
		Outputs: filepath.Join(dir, "outputs"), Checkpoint: filepath.Join(dir, "checkpoint"),
		Parts:       openRoot(t, dir),
		OutputLimit: 64 << 20, KillDelay: time.Hour, Environ: []string{"PATH=" + os.Getenv("PATH")},
	}
}

func openRoot(t *testing.T, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func run(t *testing.T, spec task.Spec) api.Result {
	t.Helper()
	return task.Run(t.Context(), context.Background(), spec)
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestResult(t *testing.T) {
	spec := newSpec(t, &api.Task{ID: "a", Command: "printf", Args: []string{"%s", "$HOME;*"}})
	spec.Attempt, spec.GPUs = 2, []string{"GPU-1"}
	before := time.Now()
	got := run(t, spec)
	if got.Started.Before(before) || got.Finished.Before(got.Started) || got.Finished.After(time.Now()) {
		t.Errorf("started %s and finished %s, want both since %s", got.Started, got.Finished, before)
	}
	got.Started, got.Finished = time.Time{}, time.Time{}
	want := api.Result{Task: "a", Attempt: 2, Outcome: api.Succeeded, Runner: "r", GPUs: []string{"GPU-1"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if got := read(t, spec.Stdout); got != "$HOME;*" {
		t.Errorf("stdout is %q, want the argument as it is, through no shell", got)
	}
}

func TestEnds(t *testing.T) {
	for _, test := range []struct {
		name    string
		task    *api.Task
		outcome api.Outcome
		code    int
		signal  string
		reason  string // a part of it
	}{
		{"exit 0", shell("exit 0"), api.Succeeded, 0, "", ""},
		{"exit 3", shell("exit 3"), api.Failed, 3, "", "exit status 3"},
		{"signal", shell("kill -SEGV $$"), api.Failed, -1, "SIGSEGV", "ended by SIGSEGV"},
		{"standard input is empty", shell("! read x"), api.Succeeded, 0, "", ""},
		{"not in PATH", &api.Task{Command: "no-such-program"}, api.Failed, -1, "", `"no-such-program" was not found in PATH`},
		{"no such path", &api.Task{Command: "/no/such"}, api.Failed, -1, "", `"/no/such" was not found`},
		{"no program", &api.Task{Command: "/etc/passwd"}, api.Failed, -1, "", "not executable"},
		{"directory", &api.Task{Command: "/etc"}, api.Failed, -1, "", "is a directory"},
		{"hostile name", &api.Task{Command: "\x1b[31m" + strings.Repeat("x", 1000)}, api.Failed, -1, "", `"\x1b[31m`},
		{"too long", shell(strings.Repeat(" ", 1<<20)), api.Failed, -1, "", "could not be started"},
		{"workdir", &api.Task{Command: "sh", Args: []string{"-c", `test "$PWD $(pwd -P)" = "/ /"`}, Workdir: "/"}, api.Succeeded, 0, "", ""},
		{"no workdir", &api.Task{Command: "true", Workdir: "/no/such"}, api.Failed, -1, "", `workdir "/no/such": stat /no/such: no such file or directory`},
		{"workdir is a file", &api.Task{Command: "true", Workdir: "/etc/passwd"}, api.Failed, -1, "", `workdir "/etc/passwd": not a directory`},
		{"timeout", withTimeout(shell("sleep 1000")), api.TimedOut, -1, "SIGTERM", "the timeout of 100ms ended it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := run(t, newSpec(t, test.task))
			if got.Outcome != test.outcome || got.ExitCode != test.code || got.Signal != test.signal {
				t.Errorf("%s, exit code %d, signal %q; want %s, %d, %q (%s)",
					got.Outcome, got.ExitCode, got.Signal, test.outcome, test.code, test.signal, got.Reason)
			}
			if !strings.Contains(got.Reason, test.reason) || (got.Reason == "") != (test.reason == "") {
				t.Errorf("reason is %q, want %q in it", got.Reason, test.reason)
			}
			if len(got.Reason) > 500 || strings.Contains(got.Reason, "\x1b") {
				t.Errorf("reason is not shortened or not escaped: %q", got.Reason)
			}
		})
	}
}

func withTimeout(of *api.Task) *api.Task {
	of.Timeout = api.Duration(100 * time.Millisecond)
	return of
}

func TestEnvironment(t *testing.T) {
	for _, test := range []struct {
		name string
		gpus []string
		want []string
	}{
		{"no GPU", nil, []string{"CUDA_VISIBLE_DEVICES=", "NVIDIA_VISIBLE_DEVICES=void"}},
		{"two GPUs", []string{"GPU-2", "GPU-1"},
			[]string{"CUDA_VISIBLE_DEVICES=GPU-2,GPU-1", "NVIDIA_VISIBLE_DEVICES=GPU-2,GPU-1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			of := &api.Task{ID: "a", Command: "env", Env: map[string]string{"OVERRIDDEN": "by the task", "ADDED": "x\ny", "TRACEPARENT": "of the task"}}
			spec := newSpec(t, of)
			spec.GPUs, spec.Attempt = test.gpus, 3
			spec.Environ = append(spec.Environ, "KEPT=1", "OVERRIDDEN=0", "STUDIOML_SPOOL=/spool", "STUDIOML_RUNNER=other",
				"CUDA_VISIBLE_DEVICES=all", "NVIDIA_VISIBLE_DEVICES=all", "PWD=/", "KUBECONFIG=/x", "PGPASSWORD=x",
				"TRACEPARENT=of the runner", "TRACESTATE=of the runner")
			if got := run(t, spec); got.Outcome != api.Succeeded {
				t.Fatal(got.Reason)
			}
			got := strings.Split(strings.TrimSpace(strings.ReplaceAll(read(t, spec.Stdout), "x\ny", "x y")), "\n")
			want := append([]string{
				spec.Environ[0], "KEPT=1", "OVERRIDDEN=by the task", "ADDED=x y", "TRACEPARENT=of the task", "PWD=" + spec.Dir,
				"STUDIOML_TASK_ID=a", "STUDIOML_TASK_ATTEMPT=3", "STUDIOML_RUNNER=r", "STUDIOML_DRAIN_FILE=" + spec.DrainFile,
				"STUDIOML_OUTPUT_DIR=" + spec.Outputs, "STUDIOML_CHECKPOINT_DIR=" + spec.Checkpoint,
			}, test.want...)
			slices.Sort(got)
			slices.Sort(want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("environment (-want +got):\n%s", diff)
			}
		})
	}
}

// The command is looked up in the task's PATH; one with a slash in the
// directory where it runs.
func TestCommandLookup(t *testing.T) {
	bin := t.TempDir()
	script := []byte("#!/bin/sh\necho \"$0 in $PWD\"\n")
	if err := os.WriteFile(filepath.Join(bin, "mine"), script, 0o755); err != nil {
		t.Fatal(err)
	}
	// What is below the runner's own directory must not be found.
	t.Chdir(t.TempDir())
	if err := os.MkdirAll("relative/mine", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"mine", "relative/mine/mine"} {
		if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	spec := newSpec(t, &api.Task{ID: "a", Command: "mine", Env: map[string]string{"PATH": "relative/mine::" + bin}})
	if got := run(t, spec); got.Outcome != api.Succeeded {
		t.Error(got.Reason)
	}
	spec = newSpec(t, &api.Task{ID: "a", Command: "./mine"})
	if err := os.WriteFile(filepath.Join(spec.Dir, "mine"), script, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := run(t, spec); got.Outcome != api.Succeeded {
		t.Error(got.Reason)
	}
	if got, want := read(t, spec.Stdout), "in "+spec.Dir+"\n"; !strings.HasSuffix(got, want) {
		t.Errorf("stdout is %q, want %q at its end", got, want)
	}
}

func TestOutputCannotBeKept(t *testing.T) {
	spec := newSpec(t, shell("touch started"))
	spec.Stderr = filepath.Join(spec.Dir, "none", "stderr")
	if got := run(t, spec); got.Outcome != api.MachineFailed || !strings.Contains(got.Reason, spec.Stderr) {
		t.Errorf("%s (%s), want MachineFailed with the path", got.Outcome, got.Reason)
	}
	notStarted(t, spec)
}

func TestEndedBeforeStart(t *testing.T) {
	ended, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("the gate closed"))
	for name, contexts := range map[string][2]context.Context{
		"terminate": {ended, context.Background()},
		"kill":      {context.Background(), ended},
	} {
		spec := newSpec(t, shell("touch started"))
		got := task.Run(contexts[0], contexts[1], spec)
		if got.Outcome != api.Interrupted || got.ExitCode != -1 || !strings.Contains(got.Reason, "the gate closed") {
			t.Errorf("%s: %s, exit code %d (%s); want Interrupted, -1 and the cause", name, got.Outcome, got.ExitCode, got.Reason)
		}
		notStarted(t, spec)
	}
}

func notStarted(t *testing.T, spec task.Spec) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(spec.Dir, "started")); err == nil {
		t.Error("the command was run")
	}
}
