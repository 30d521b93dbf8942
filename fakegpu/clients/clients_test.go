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

// nvmlEventTypeXidCriticalError is the type of an Xid in the event journal.
const nvmlEventTypeXidCriticalError = 8

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

// xid appends an Xid of a GPU to the event journal.
func (m machine) xid(t *testing.T, gpu, xid int) {
	journal, err := os.OpenFile(filepath.Join(m.state, "events"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(journal, "%s %d %d\n", m.uuids[gpu], nvmlEventTypeXidCriticalError, xid)
	if closeErr := journal.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		t.Fatal(err)
	}
}
