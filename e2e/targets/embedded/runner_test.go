package embedded_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
	"github.com/studioml/studio-go-runner/fakegpu"
	"github.com/studioml/studio-go-runner/runner/api"
)

// newEnv makes a place whose runner is this test binary.
func newEnv(t *testing.T, isolation targets.Isolation) embedded.Env {
	t.Helper()
	return newEnvWith(t, embedded.Config{}, isolation)
}

func newEnvWith(t *testing.T, config embedded.Config, isolation targets.Isolation) embedded.Env {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	config.RunnerBinary = self
	env, err := embedded.NewOfflineEnv(config, isolation)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if left := processesOf(env.Dir()); len(left) > 0 {
			t.Errorf("processes %v are left", left)
		}
		if _, err := os.Stat(env.Dir()); err == nil {
			t.Error("the directory is left")
		}
	})
	return env
}

// processesOf returns the processes that were started with a TMPDIR below a directory.
func processesOf(dir string) (found []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		// What has ended meanwhile, and what is somebody else's, has nothing to read.
		if environ, _ := os.ReadFile(file); bytes.Contains(environ, []byte("TMPDIR="+dir+"/")) {
			found = append(found, file)
		}
	}
	return found
}

// sink keeps what a process tells.
type sink struct {
	t *testing.T

	mu       sync.Mutex
	statuses []uint64
	lines    []string
	exit     *targets.Exit
	changed  chan struct{}
}

func (s *sink) note(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exit != nil {
		s.t.Error("a word came after the exit")
	}
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *sink) Status(status api.Status) {
	s.note(func() { s.statuses = append(s.statuses, status.Sequence) })
}
func (s *sink) Log(line string)        { s.note(func() { s.lines = append(s.lines, line) }) }
func (s *sink) Trouble(err error)      { s.t.Errorf("trouble: %v", err) }
func (s *sink) Exit(exit targets.Exit) { s.note(func() { s.exit = &exit }) }

// await waits until something is so.
func (s *sink) await(what string, done func() bool) {
	s.t.Helper()
	for {
		s.mu.Lock()
		ok, changed := done(), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-time.After(time.Minute):
			s.t.Fatalf("still no %s", what)
		}
	}
}

// served waits until the runner has reported n statuses, and returns them.
func (s *sink) served(n int) (statuses []uint64) {
	s.t.Helper()
	s.await("status", func() bool {
		statuses = slices.Clone(s.statuses)
		return len(statuses) >= n
	})
	return statuses
}

func (s *sink) ended() targets.Exit {
	s.t.Helper()
	s.await("exit", func() bool { return s.exit != nil })
	return *s.exit
}

func start(t *testing.T, env targets.Env, spec targets.RunnerSpec) (targets.Runner, *sink) {
	t.Helper()
	s := &sink{t: t, changed: make(chan struct{})}
	runner, err := env.StartRunner(t.Context(), spec, s)
	if err != nil {
		t.Fatal(err)
	}
	return runner, s
}

func terminate(t *testing.T, runner targets.Runner) {
	t.Helper()
	if err := runner.Signal(t.Context(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

func TestRunnerLife(t *testing.T) {
	artifacts := t.TempDir()
	env := newEnv(t, targets.Isolation{Evidence: artifacts})
	runner, told := start(t, env, targets.RunnerSpec{Name: "r1"})
	if diff := cmp.Diff([]uint64{1, 2}, told.served(2)); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	for path, want := range map[string]int{"/livez": 200, "/readyz": 503} {
		code, body, err := runner.Get(t.Context(), path)
		if err != nil || code != want || string(body) != "the answer to "+path {
			t.Errorf("get %s: %d, %q, %v, want %d", path, code, body, err, want)
		}
	}
	if _, err := env.StartRunner(t.Context(), targets.RunnerSpec{Name: "r1"}, told); err == nil || !strings.Contains(err.Error(), "it is running") {
		t.Errorf("error of a second start is %v", err)
	}
	if err := runner.Signal(t.Context(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	told.served(3) // the third comes after SIGHUP
	terminate(t, runner)
	exit := told.ended()
	if exit.Code != 143 || exit.Message != "drained after SIGTERM" || exit.Time.IsZero() {
		t.Errorf("exit is %+v", exit)
	}
	if diff := cmp.Diff([]uint64{1, 2, 3}, told.statuses); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	if len(told.lines) != 3 || told.lines[2] != `{"msg":"ended"}` {
		t.Errorf("log is %q", told.lines)
	}
	file, err := os.ReadFile(filepath.Join(artifacts, "runner-r1.1.log"))
	if err != nil || string(file) != strings.Join(told.lines, "\n")+"\n" {
		t.Errorf("log file is %q, %v", file, err)
	}
	if code, _, err := runner.Get(t.Context(), "/livez"); err == nil {
		t.Errorf("an ended runner has answered: %d", code)
	}
	start(t, env, targets.RunnerSpec{Name: "r1"})
}

func TestRunnerThatCannotStart(t *testing.T) {
	env := newEnv(t, targets.Isolation{})
	runner, told := start(t, env, targets.RunnerSpec{Name: "r1", Runner: scenario.Runner{Flags: map[scenario.Flag]string{"exit": "now"}}})
	if exit := told.ended(); exit.Code != 1 || exit.Message != "" {
		t.Errorf("exit is %+v", exit)
	}
	if diff := cmp.Diff([]string{"cannot start, and this line has no end"}, told.lines); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if len(told.statuses) > 0 {
		t.Errorf("statuses are %v", told.statuses)
	}
	if code, _, err := runner.Get(t.Context(), "/livez"); err == nil {
		t.Errorf("it has answered: %d", code)
	}
}

func TestKilledRunnerLeavesNothing(t *testing.T) {
	env := newEnv(t, targets.Isolation{}) // its cleanup looks for the orphan
	runner, told := start(t, env, targets.RunnerSpec{Name: "r1", Runner: scenario.Runner{Flags: map[scenario.Flag]string{"orphan": "true"}}})
	told.served(1)
	if err := runner.Signal(t.Context(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// The orphan holds the output, and nobody waits for its end.
	if exit := told.ended(); exit.Code != -1 {
		t.Errorf("exit is %+v", exit)
	}
	if got := len(processesOf(env.Dir())); got != 1 {
		t.Errorf("%d processes are left before the end, want the orphan", got)
	}
}

func TestCloseKillsDeafRunner(t *testing.T) {
	env := newEnv(t, targets.Isolation{})
	_, told := start(t, env, targets.RunnerSpec{Name: "r1", Runner: scenario.Runner{Flags: map[scenario.Flag]string{"deaf": "true"}}})
	told.served(1)
	if err := env.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if told.exit == nil || told.exit.Code != -1 { // after Close, nothing comes any more
		t.Errorf("exit is %+v", told.exit)
	}
}

func TestRunnerEnvironment(t *testing.T) {
	t.Setenv("KUBECONFIG", "/somebody's")
	t.Setenv("CUDA_VISIBLE_DEVICES", "0")
	t.Setenv("NVIDIA_VISIBLE_DEVICES", "0")
	t.Setenv("HOSTNAME", "this-machine")
	env := newEnv(t, targets.Isolation{})
	for _, test := range []struct {
		spec     targets.RunnerSpec
		hostname string
	}{
		{targets.RunnerSpec{Name: "plain"}, "HOSTNAME=plain"},
		{targets.RunnerSpec{Name: "other", Runner: scenario.Runner{Hostname: "node.example"}}, "HOSTNAME=node.example"},
		{targets.RunnerSpec{Name: "bad", Runner: scenario.Runner{Hostname: "No Name"}}, "HOSTNAME=No Name"},
		{targets.RunnerSpec{Name: "none", Runner: scenario.Runner{Hostname: "unset"}}, ""},
	} {
		test.spec.Slots, test.spec.Flags = 4, map[scenario.Flag]string{"settle": "2s"}
		runner, told := start(t, env, test.spec)
		told.served(1)
		terminate(t, runner)
		told.ended()
		var entry struct{ Env, Args []string }
		if err := json.Unmarshal([]byte(told.lines[0]), &entry); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, variable := range entry.Env {
			name, _, _ := strings.Cut(variable, "=")
			names = append(names, name)
			if name == "NVIDIA_VISIBLE_DEVICES" && variable != name+"=none" {
				t.Errorf("%s: %s, want none", test.spec.Name, variable)
			}
			if name == "HOSTNAME" && variable != test.hostname {
				t.Errorf("%s: %s, want %q", test.spec.Name, variable, test.hostname)
			}
		}
		allowed := []string{"PATH", "HOME", "TMPDIR", "HOSTNAME", "NVIDIA_VISIBLE_DEVICES", "GORACE", "GOCOVERDIR", "MUTANT"}
		for _, name := range names {
			if !slices.Contains(allowed, name) {
				t.Errorf("%s: the runner was given %s", test.spec.Name, name)
			}
		}
		if got, want := slices.Contains(names, "HOSTNAME"), test.hostname != ""; got != want {
			t.Errorf("%s: HOSTNAME set: got %t, want %t", test.spec.Name, got, want)
		}
		for _, flag := range []string{"--settle=2s", "--slots=4", "--name=" + test.spec.Name} {
			if !slices.Contains(entry.Args, flag) {
				t.Errorf("%s: %s is missing in %q", test.spec.Name, flag, entry.Args)
			}
		}
	}
}

func TestRunnerKeepsItsGPUs(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	library := filepath.Join(t.TempDir(), "fake.so")
	if err := os.Symlink(self, filepath.Join(filepath.Dir(library), "fakegpu")); err != nil {
		t.Fatal(err)
	}
	env := newEnvWith(t, embedded.Config{NVMLLibrary: library}, targets.Isolation{})
	var made [][]fakegpu.GPU
	spec := targets.RunnerSpec{Name: "r1", Runner: scenario.Runner{GPUs: 2, Profile: "T4"}}
	for range 2 {
		runner, told := start(t, env, spec)
		told.served(1)
		terminate(t, runner)
		told.ended()
		first := told.lines[0]
		state := filepath.Join(env.Dir(), "gpus", "r1")
		for _, variable := range []string{"STUDIOML_NVML_LIBRARY=" + library, "FAKEGPU_STATE=" + state} {
			if !strings.Contains(first, variable) {
				t.Errorf("%s is missing in %s", variable, first)
			}
		}
		machine, err := fakegpu.Load(state)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, machine.GPUs)
	}
	if len(made[0]) != 2 || made[0][0].Name != "Tesla T4" {
		t.Errorf("GPUs made: %v, want 2 of the profile", made[0])
	}
	if diff := cmp.Diff(made[0], made[1]); diff != "" {
		t.Errorf("GPUs after a restart (-before +after):\n%s", diff)
	}
	err = env.ChangeGPUs(t.Context(), spec, []string{"inject", "DIR"})
	if err == nil || !strings.Contains(err.Error(), "fakegpu cannot do that") || !strings.Contains(err.Error(), filepath.Join("gpus", "r1")) {
		t.Errorf("error of a command that fails is %v", err)
	}
}

func TestQueue(t *testing.T) {
	env := newEnv(t, targets.Isolation{Needs: []scenario.Need{scenario.NeedQueueOutage}})
	_, err := env.Queue(t.Context())
	if err == nil || !strings.Contains(err.Error(), "status: exit status 1\ncannot read spool") {
		t.Errorf("error is %v, want it with the output", err)
	}
	tasks := []api.Task{{ID: "a", Command: "true", Args: []string{"---\n'\""}}, {ID: "b", Command: "false"}}
	if err := env.HideQueue(); err != nil {
		t.Fatal(err)
	}
	if err := env.Submit(t.Context(), tasks); err != nil { // the outage is the runners'
		t.Fatal(err)
	}
	contents, err := env.Queue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := targets.Contents{{ID: "a", State: api.TaskWaiting}, {ID: "b", State: api.TaskWaiting}}
	if diff := cmp.Diff(want, contents); diff != "" {
		t.Errorf("queue (-want +got):\n%s", diff)
	}
	spool := filepath.Join(env.Dir(), "spool")
	if err := os.Mkdir(spool, 0o755); err != nil {
		t.Fatalf("the queue is not hidden: %v", err)
	}
	if err := env.RestoreQueue(); err == nil || !strings.Contains(err.Error(), "a runner has made a new queue") {
		t.Errorf("error of restoring over a new queue is %v", err)
	}
	if err := os.Remove(spool); err != nil {
		t.Fatal(err)
	}
	if err := env.RestoreQueue(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(spool, "documents")); err != nil {
		t.Error(err)
	}
	if err := env.HideQueue(); err != nil {
		t.Error(err)
	}
	if err := env.HideQueue(); err == nil {
		t.Error("no error for hiding it twice")
	}
}
