package embedded_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

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
		if left := embedded.ProcessesOf(env.Dir()); len(left) > 0 {
			t.Errorf("processes %v are left", left)
		}
		if _, err := os.Stat(env.Dir()); err == nil {
			t.Error("the directory is left")
		}
	})
	return env
}

func start(t *testing.T, env targets.Env, spec targets.RunnerSpec) targets.Runner {
	t.Helper()
	runner, err := env.StartRunner(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return runner
}

// serve waits until the runner has reported n statuses, and returns them.
func serve(t *testing.T, runner targets.Runner, n int) []uint64 {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []uint64
	err := runner.Watch(ctx, func(s api.Status) {
		if got = append(got, s.Sequence); len(got) == n {
			cancel()
		}
	})
	if err != nil || len(got) != n {
		t.Fatalf("statuses are %v, want %d (%v)", got, n, err)
	}
	return got
}

func logs(t *testing.T, runner targets.Runner) []string {
	t.Helper()
	var lines []string
	if err := runner.Logs(t.Context(), func(line string) { lines = append(lines, line) }); err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestRunnerLife(t *testing.T) {
	artifacts := t.TempDir()
	env := newEnv(t, targets.Isolation{Artifacts: artifacts})
	runner := start(t, env, targets.RunnerSpec{Name: "r1"})
	if diff := cmp.Diff([]uint64{1, 2}, serve(t, runner, 2)); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	for path, want := range map[string]bool{"/livez": true, "/readyz": false} {
		if got, err := runner.Probe(t.Context(), path); err != nil || got != want {
			t.Errorf("probe %s: got %t, %v, want %t", path, got, err, want)
		}
	}
	if _, err := env.StartRunner(t.Context(), targets.RunnerSpec{Name: "r1"}); err == nil || !strings.Contains(err.Error(), "it is running") {
		t.Errorf("error of a second start is %v", err)
	}
	if err := runner.Signal(t.Context(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	serve(t, runner, 3) // the third comes after SIGHUP
	if err := runner.Signal(t.Context(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	exit, err := runner.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if exit.Code != 143 || exit.Message != "drained after SIGTERM" || exit.Time.IsZero() {
		t.Errorf("exit is %+v", exit)
	}
	// The record is complete, also for those who come late.
	var statuses []uint64
	if err := runner.Watch(t.Context(), func(s api.Status) { statuses = append(statuses, s.Sequence) }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint64{1, 2, 3}, statuses); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	lines := logs(t, runner)
	if len(lines) != 3 || lines[2] != `{"msg":"ended"}` {
		t.Errorf("log is %q", lines)
	}
	file, err := os.ReadFile(filepath.Join(artifacts, "runner-r1.1.log"))
	if err != nil || string(file) != strings.Join(lines, "\n")+"\n" {
		t.Errorf("log file is %q, %v", file, err)
	}
	if ok, err := runner.Probe(t.Context(), "/livez"); ok || err != nil {
		t.Errorf("probe of an ended runner: %t, %v", ok, err)
	}
	start(t, env, targets.RunnerSpec{Name: "r1"})
}

func TestRunnerThatCannotStart(t *testing.T) {
	env := newEnv(t, targets.Isolation{})
	runner := start(t, env, targets.RunnerSpec{Name: "r1", Runner: scenario.Runner{Flags: map[string]string{"exit": "now"}}})
	exit, err := runner.Wait(t.Context())
	if err != nil || exit.Code != 1 || exit.Message != "" {
		t.Errorf("exit is %+v, %v", exit, err)
	}
	if diff := cmp.Diff([]string{"cannot start, and this line has no end"}, logs(t, runner)); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if err := runner.Watch(t.Context(), func(s api.Status) { t.Errorf("status %+v", s) }); err != nil {
		t.Error(err)
	}
}

func TestKilledRunnerLeavesNothing(t *testing.T) {
	env := newEnv(t, targets.Isolation{}) // its cleanup looks for the orphan
	runner := start(t, env, targets.RunnerSpec{Name: "r1", Runner: scenario.Runner{Flags: map[string]string{"orphan": "true"}}})
	serve(t, runner, 1)
	if err := runner.Signal(t.Context(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit, err := runner.Wait(t.Context()); err != nil || exit.Code != -1 {
		t.Errorf("exit is %+v, %v", exit, err)
	}
	if got := len(embedded.ProcessesOf(env.Dir())); got != 1 {
		t.Errorf("%d processes are left before the end, want the orphan", got)
	}
}

func TestCloseKillsDeafRunner(t *testing.T) {
	env := newEnv(t, targets.Isolation{})
	runner := start(t, env, targets.RunnerSpec{Name: "r1", Runner: scenario.Runner{Flags: map[string]string{"deaf": "true"}}})
	serve(t, runner, 1)
	if err := env.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if exit, err := runner.Wait(t.Context()); err != nil || exit.Code != -1 {
		t.Errorf("exit is %+v, %v", exit, err)
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
		nodeMap  string
		hostname string
	}{
		{targets.RunnerSpec{Name: "plain"}, "plain", "HOSTNAME=plain"},
		{targets.RunnerSpec{Name: "other", Runner: scenario.Runner{Hostname: "node.example"}}, "node.example", "HOSTNAME=node.example"},
		{targets.RunnerSpec{Name: "bad", Runner: scenario.Runner{Hostname: "No Name"}}, "", "HOSTNAME=No Name"},
		{targets.RunnerSpec{Name: "none", Runner: scenario.Runner{Hostname: "unset"}}, "", ""},
	} {
		test.spec.Flags = map[string]string{"settle": "2s"}
		runner := start(t, env, test.spec)
		if got := runner.NodeMap(); got != test.nodeMap {
			t.Errorf("%s: node map is %q, want %q", test.spec.Name, got, test.nodeMap)
		}
		serve(t, runner, 1)
		if err := runner.Signal(t.Context(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		var entry struct{ Env, Args []string }
		if err := json.Unmarshal([]byte(logs(t, runner)[0]), &entry); err != nil {
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
		allowed := []string{"PATH", "HOME", "TMPDIR", "HOSTNAME", "NVIDIA_VISIBLE_DEVICES", "GORACE", "GOCOVERDIR"}
		for _, name := range names {
			if !slices.Contains(allowed, name) {
				t.Errorf("%s: the runner was given %s", test.spec.Name, name)
			}
		}
		if got, want := slices.Contains(names, "HOSTNAME"), test.hostname != ""; got != want {
			t.Errorf("%s: HOSTNAME set: got %t, want %t", test.spec.Name, got, want)
		}
		for _, flag := range []string{"--settle=2s", "--slots=4", "--name=" + test.spec.Name, "--listen=127.0.0.1:0"} {
			if !slices.Contains(entry.Args, flag) {
				t.Errorf("%s: %s is missing in %q", test.spec.Name, flag, entry.Args)
			}
		}
	}
}

func TestRunnerKeepsItsGPUs(t *testing.T) {
	env := newEnvWith(t, embedded.Config{NVMLLibrary: "/lib/fake.so"}, targets.Isolation{})
	var made [][]fakegpu.GPU
	spec := targets.RunnerSpec{Name: "r1", Runner: scenario.Runner{GPUs: 2}}
	for range 2 {
		runner := start(t, env, spec)
		serve(t, runner, 1)
		if err := runner.Signal(t.Context(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		first := logs(t, runner)[0]
		for _, variable := range []string{"STUDIOML_NVML_LIBRARY=/lib/fake.so", "FAKEGPU_STATE=" + env.Dir()} {
			if !strings.Contains(first, variable) {
				t.Errorf("%s is missing in %s", variable, first)
			}
		}
		states, err := filepath.Glob(filepath.Join(env.Dir(), "runners", "r1", "*", "state"))
		if err != nil || len(states) != 1 {
			t.Fatalf("states: %v, %v, want one", states, err)
		}
		machine, err := fakegpu.Load(filepath.Dir(states[0]))
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, machine.GPUs)
	}
	if len(made[0]) != 2 || made[0][0].Name != "Tesla T4" {
		t.Errorf("GPUs made: %v, want 2 of the default profile", made[0])
	}
	if diff := cmp.Diff(made[0], made[1]); diff != "" {
		t.Errorf("GPUs after a restart (-before +after):\n%s", diff)
	}
}

func TestQueue(t *testing.T) {
	env := newEnv(t, targets.Isolation{Needs: []scenario.Need{scenario.NeedQueueOutage}})
	_, err := env.Queue(t.Context())
	if err == nil || !strings.Contains(err.Error(), "runner status: exit status 1\ncannot read spool") {
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
	want := []api.QueuedTask{{ID: "a"}, {ID: "b"}}
	if diff := cmp.Diff(want, contents.Ready); diff != "" {
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
}
