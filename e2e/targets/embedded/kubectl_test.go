package embedded_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/studioml/studio-go-runner/e2e/controlplane"
	"github.com/studioml/studio-go-runner/e2e/program"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
)

const someServer = "https://127.0.0.1:1"

// A line is run as a person's shell would run it, with kubectl from PATH or else from
// beside the control plane.
func TestKubectl(t *testing.T) {
	const program = "#!/bin/sh\n[ \"$1\" = fail ] && echo refused >&2 && exit 1\necho \"$KUBECONFIG: $*\"\n"
	path, assets := t.TempDir(), t.TempDir()
	if err := os.Symlink("/bin/sh", filepath.Join(path, "sh")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", path)
	config := embedded.Config{Handle: controlplane.Handle{Server: someServer, Assets: assets}}
	env := newEnvWith(t, config, targets.Isolation{})
	if _, err := env.Kubectl(t.Context(), "get cm"); err == nil || !strings.Contains(err.Error(), "install it") {
		t.Errorf("without kubectl the error is %v", err)
	}
	for _, dir := range []string{assets, path} {
		if err := os.WriteFile(filepath.Join(dir, "kubectl"), []byte(strings.Replace(program, "echo \"", "echo \""+dir+" ", 1)), 0o755); err != nil {
			t.Fatal(err)
		}
		got, err := env.Kubectl(t.Context(), `patch -p '{"a": "b c"}'; kubectl get cm`)
		begin := dir + " " + env.Dir() + "/admin: "
		if want := begin + `patch -p {"a": "b c"}` + "\n" + begin + "get cm\n"; err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		variables, err := env.Shell()
		if beside := "PATH=" + assets + ":" + path; err != nil || slices.Contains(variables, beside) != (dir == assets) {
			t.Errorf("the variables of a shell are %q, %v", variables, err)
		}
	}
	if _, err := env.Kubectl(t.Context(), "fail"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("the error of a line that fails is %v", err)
	}
	target, err := embedded.New(embedded.Config{Handle: config.Handle, RunnerBinary: os.Args[0]})
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Lacks(scenario.NeedKubectl); err != nil {
		t.Error(err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := os.Remove(filepath.Join(assets, "kubectl")); err != nil {
		t.Fatal(err)
	}
	if err := target.Lacks(scenario.NeedKubectl); err == nil || !strings.Contains(err.Error(), "install it") {
		t.Errorf("without kubectl it lacks %v", err)
	}
}

// What a person has started in a shell with the place's kubeconfig outlives the place.
func TestClosingSparesPeople(t *testing.T) {
	env := newEnvWith(t, embedded.Config{Handle: controlplane.Handle{Server: someServer}}, targets.Isolation{})
	theirs := sleeper(t, "KUBECONFIG="+env.Dir()+"/admin")
	if err := env.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	spared(t, theirs)
}

// spared says whether a process was killed by somebody else.
func spared(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err == nil || err.Error() != "signal: terminated" {
		t.Errorf("somebody's process ended with %v", err)
	}
}

// sleeper is a process with one variable.
func sleeper(t *testing.T, variable string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.Env = []string{variable}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// The janitor ends the runners and tasks of a directory, and nobody else, and removes
// it; see the spec of the demo for one whose owner was killed.
func TestTempDir(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir, remove, err := program.TempDir("it-*")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ours, theirs := sleeper(t, "TMPDIR="+dir+"/place/tmp"), sleeper(t, "TMPDIR="+dir+"2/place")
	ended := make(chan error, 1)
	go func() { ended <- ours.Wait() }() // else it stays as a zombie, whose environment is empty
	if err := remove(); err != nil {
		t.Error(err)
	}
	_ = ours.Process.Signal(syscall.SIGTERM) // which is too late
	if err := <-ended; err == nil || err.Error() != "signal: killed" {
		t.Errorf("what ran below it ended with %v", err)
	}
	spared(t, theirs)
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory is left")
	}
}
