// Package debian runs programs of Debian 12 that ask NVML on the fake library,
// and compares what they say with what was set. They are unpacked, not
// installed; make clients-full runs them.
package debian

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is how long a program may take on a busy machine.
const patience = time.Minute

// bin has the fake library and its command, root what was unpacked.
var bin, root string

func TestMain(m *testing.M) {
	dir, err := filepath.Abs(filepath.Join("..", "..", "..", "bin"))
	if err != nil {
		panic(err)
	}
	bin, root = dir, filepath.Join(dir, "debian", "root")
	for _, file := range []string{"libnvidia-ml.so.1", "fakegpu"} {
		if _, err := os.Stat(filepath.Join(bin, file)); err != nil {
			fmt.Fprintf(os.Stderr, "%v; build it with make build\n", err)
			os.Exit(1)
		}
	}
	if out, err := exec.Command("./unpack", filepath.Dir(root)).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "unpack Debian's programs: %v\n%s", err, out)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// gpu is what each test sets for the second of two GPUs. No two numbers are the
// same, so that none can stand for another.
var gpu = struct {
	uuids                                                  [2]string
	temperature, power, limit, used, active, clock, memory uint64
	pids                                                   [2]int
}{
	temperature: 61, power: 312500, limit: 650000, used: 7168 << 20, active: 93, clock: 1755, memory: 81559 << 20, pids: [2]int{1, os.Getpid()},
}

// machine makes two H100s, and sets what gpu has.
func machine(t *testing.T) (state string) {
	t.Helper()
	state = t.TempDir()
	command(t, "create", state, "--profile", "H100-80GB", "--count", "2")
	command(t, "set", state, "1", fmt.Sprint("temperature=", gpu.temperature), fmt.Sprint("power=", gpu.power), fmt.Sprint("power_limit=", gpu.limit),
		fmt.Sprint("memory_used=", gpu.used), fmt.Sprint("utilization_gpu=", gpu.active), fmt.Sprint("clock_sm=", gpu.clock), fmt.Sprint("clock_graphics=", gpu.clock),
		"memory_reserved=0", "--process", fmt.Sprintf("%d=%d,sm=60,name=init", gpu.pids[0], 1<<30), "--process", fmt.Sprintf("%d=%d,sm=33,name=test", gpu.pids[1], 2<<30))
	for i, line := range strings.Split(strings.TrimSpace(command(t, "list", state)), "\n") {
		gpu.uuids[i] = strings.Fields(line)[1]
	}
	return state
}

// command runs fakegpu.
func command(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(bin, "fakegpu"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("fakegpu %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// environment lets a program find the GPUs and what it was unpacked with.
func environment(state string, more ...string) []string {
	lib := filepath.Join(root, "usr", "lib")
	return append(append(os.Environ(), "FAKEGPU_STATE="+state,
		"LD_LIBRARY_PATH="+strings.Join([]string{bin, filepath.Join(lib, "x86_64-linux-gnu"), filepath.Join(root, "lib", "x86_64-linux-gnu"), lib}, ":"),
		"PYTHONPATH="+filepath.Join(lib, "python3", "dist-packages"), "HWLOC_PLUGINS_PATH="+filepath.Join(lib, "x86_64-linux-gnu", "hwloc"),
		"PCP_CONF="+filepath.Join(filepath.Dir(root), "pcp.conf")), more...)
}

// unpacked finds a program.
func unpacked(name string) string { return filepath.Join(root, "usr", "bin", name) }

// python is Debian's own: its modules are for no other version.
func python() string {
	if file := unpacked("python3"); exec.Command(file, "-c", "").Run() == nil {
		return file
	}
	return "/usr/bin/python3"
}

// output runs a program to its end.
func output(t *testing.T, state, stdin, program string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), program, args...)
	c.Env = environment(state)
	c.Stdin = strings.NewReader(stdin)
	var errors bytes.Buffer
	c.Stderr = &errors
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s%s", program, args, err, out, &errors)
	}
	return string(out)
}

// says compares what a program prints.
func says(t *testing.T, out string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("there is no %q in:\n%.6000s", w, out)
		}
	}
}
