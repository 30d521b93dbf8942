package debian

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// rust builds nvml-wrapper/ with Debian's compiler and crates; what was built
// before is kept.
func rust(t *testing.T) (program string) {
	t.Helper()
	home := filepath.Join(filepath.Dir(root), "cargo")
	source := filepath.Join(t.TempDir(), "source") // cargo writes beside it
	if err := os.CopyFS(source, os.DirFS("nvml-wrapper")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, "config.toml"), fmt.Sprintf("[source.crates-io]\nreplace-with = \"debian\"\n[source.debian]\ndirectory = %q\n", filepath.Join(root, "usr", "share", "cargo", "registry")))
	build := exec.CommandContext(t.Context(), unpacked("cargo"), "build", "--offline")
	build.Dir = source
	build.Env = environment("", "CARGO_HOME="+home, "CARGO_TARGET_DIR="+filepath.Join(home, "target"), "PATH="+filepath.Join(root, "usr", "bin")+":"+os.Getenv("PATH"))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cargo build: %v\n%s", err, out)
	}
	return filepath.Join(home, "target", "debug", "nvml-wrapper-client")
}

// TestNvmlWrapper has a program of Rust's nvml-wrapper answer, and hear an Xid.
func TestNvmlWrapper(t *testing.T) {
	program := rust(t)
	state := machine(t)
	c := exec.CommandContext(t.Context(), program)
	c.Env = environment(state)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { c.Process.Kill() })
	defer timer.Stop()
	got := make(map[string]string)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		got[key] = value
		if key == "waiting" {
			command(t, "inject", "xid", state, "1", "48")
		}
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("nvml-wrapper: %v", err)
	}
	for key, want := range map[string]string{
		"driver": "580.95.05", "1.name": "NVIDIA H100 80GB HBM3", "1.uuid": gpu.uuids[1], "1.bus": "00000000:02:00.0", "1.memory": fmt.Sprint(gpu.memory),
		"1.memory_used": fmt.Sprint(gpu.used), "1.temperature": fmt.Sprint(gpu.temperature), "1.power": fmt.Sprint(gpu.power), "1.clock_sm": fmt.Sprint(gpu.clock),
		"1.utilization_gpu": fmt.Sprint(gpu.active), "1.cores": "16896", "1.pids": fmt.Sprintf("%d,%d", gpu.pids[0], gpu.pids[1]), "0.pids": "",
		"xid": "Some(Value(48)) of " + gpu.uuids[1],
	} {
		if diff := cmp.Diff(want, got[key]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", key, diff)
		}
	}
}
