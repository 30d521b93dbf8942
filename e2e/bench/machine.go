package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Fact is a line about where the figures come from.
type Fact struct{ Name, Value string }

// describeMachine says on what, and with which versions, was measured: no names of
// hosts, and no paths.
func describeMachine(ctx context.Context) (facts []Fact, err error) {
	run := func(name string, command ...string) {
		out, failed := exec.CommandContext(ctx, command[0], command[1:]...).Output()
		if failed != nil && err == nil {
			err = fmt.Errorf("find out the version of %s: %w", name, failed)
		}
		facts = append(facts, Fact{name, strings.TrimSpace(string(out))})
	}
	run("commit", "git", "describe", "--tags", "--always", "--dirty")
	facts = append(facts, Fact{"processor", fmt.Sprintf("%d × %s", runtime.NumCPU(), fromProc("cpuinfo", "model name"))}, Fact{"memory", fromProc("meminfo", "MemTotal")})
	run("kernel", "uname", "-sr")
	run("file system of tasks", "stat", "-f", "-c", "%T", os.TempDir())
	facts = append(facts, Fact{"Go", runtime.Version()})
	run("API server", filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kube-apiserver"), "--version")
	for _, name := range []string{"postgresql", "findutils", "task-spooler", "parallel", "slurmctld"} {
		version, failed := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Version}", name).Output()
		if failed != nil {
			version = []byte("not installed")
		}
		facts = append(facts, Fact{"Debian's " + name, string(version)})
	}
	return facts, err
}

// fromProc is the first value of a field in a file that the kernel makes.
func fromProc(file, field string) string {
	text, _ := os.ReadFile(filepath.Join("/proc", file)) // none on a machine of another kind
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == field {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
