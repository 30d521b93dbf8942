// Package clients runs NVIDIA's own programs on the fake NVML: what they accept
// is the measure of what the library answers. They live in modules of their own,
// so that the product's dependency graph stays free of them.
package clients

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// bin returns the directory of the fake library and its command.
func bin(t *testing.T) string {
	dir := os.Getenv("FAKEGPU_BIN")
	if dir == "" {
		dir = filepath.Join("..", "..", "bin")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"libnvidia-ml.so.1", "fakegpu"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			t.Skipf("%v; build it with make build, or name its directory in FAKEGPU_BIN", err)
		}
	}
	return dir
}

// program builds a program of the module in dir for the tests that can run, and
// returns its path. Go does nothing where it is up to date.
func program(t *testing.T, dir, pkg string) string {
	bin(t)
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is missing: go-nvml needs cgo")
	}
	file, err := filepath.Abs(filepath.Join("..", "..", "bin", filepath.Base(pkg)))
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-ldflags", "-extldflags=-Wl,-z,lazy", "-o", file, pkg)
	build.Dir = dir
	build.Env = append(os.Environ(), "CGO_ENABLED=1", "CGO_CFLAGS=-g -O2 -Wno-deprecated-declarations")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return file
}

// machine is a state directory and the driver root of a machine that has it.
type machine struct {
	state string
	root  string
	uuids []string // in NVML's order
	nodes bool     // whether the root has /dev/nvidiaN
}

// newMachine makes a machine with GPUs.
func newMachine(t *testing.T, flags ...string) machine {
	dir := bin(t)
	m := machine{state: t.TempDir(), root: t.TempDir()}
	fakegpu := filepath.Join(dir, "fakegpu")
	if out, err := exec.Command(fakegpu, append([]string{"create", m.state}, flags...)...).CombinedOutput(); err != nil {
		t.Fatalf("fakegpu create: %v\n%s", err, out)
	}
	out, err := exec.Command(fakegpu, "list", m.state).Output()
	if err != nil {
		t.Fatalf("fakegpu list: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		m.uuids = append(m.uuids, strings.Fields(line)[1])
	}

	library, err := os.ReadFile(filepath.Join(dir, "libnvidia-ml.so.1"))
	if err != nil {
		t.Fatal(err)
	}
	// A driver installs the library under its version, with a link to it.
	libraries := filepath.Join(m.root, "usr", "lib", "x86_64-linux-gnu")
	versioned := "libnvidia-ml.so." + m.driver(t)
	for _, err := range []error{
		os.MkdirAll(libraries, 0o755),
		os.WriteFile(filepath.Join(libraries, versioned), library, 0o755),
		os.Symlink(versioned, filepath.Join(libraries, "libnvidia-ml.so.1")),
		os.Mkdir(filepath.Join(m.root, "dev"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// Nobody opens these nodes; 195 is the driver's major number.
	for i := range m.uuids {
		err := syscall.Mknod(filepath.Join(m.root, "dev", "nvidia"+strconv.Itoa(i)), syscall.S_IFCHR|0o666, 195<<8|i)
		m.nodes = err == nil
		if errors.Is(err, syscall.EPERM) {
			t.Log("no device nodes are made or looked for: that needs root")
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// driver returns the version of the driver.
func (m machine) driver(t *testing.T) string {
	text, err := os.ReadFile(filepath.Join(m.state, "state"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if version, found := bytes.CutPrefix(line, []byte("driver ")); found {
			return string(bytes.TrimSpace(version))
		}
	}
	t.Fatalf("the state has no driver:\n%s", text)
	return ""
}

// xid raises an Xid of a GPU.
func (m machine) xid(t *testing.T, gpu, xid int) {
	m.fakegpu(t, "inject", "xid", m.state, strconv.Itoa(gpu), strconv.Itoa(xid))
}

// fakegpu runs the command, which may print something.
func (m machine) fakegpu(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(filepath.Join(bin(t), "fakegpu"), args...).CombinedOutput(); err != nil {
		t.Fatalf("fakegpu %q: %v\n%s", args, err, out)
	}
}

// mig is a MIG device of the state file.
type mig struct {
	uuid                            string
	gi, ci, slices, compute, sms, b uint64 // ids, slices, multiprocessors, bytes
}

// migs are the MIG devices of all GPUs.
func (m machine) migs(t *testing.T) (devices []mig) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.state, "state"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var d mig
		if n, _ := fmt.Sscanf(line, "mig %s %d %d %d %d %d %d", &d.uuid, &d.gi, &d.ci, &d.slices, &d.compute, &d.sms, &d.b); n == 7 {
			devices = append(devices, d)
		}
	}
	return devices
}
