package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// verdict is what became of a fault.
type verdict int

const (
	survived verdict = iota
	unreached
	killed
	timedOut
)

var verdicts = [...]string{"survived", "survived, no test gets there", "killed", "timed out"}

// suite is the tests of one package, built with all the faults of an area.
type suite struct {
	program, dir string
	reached      map[int]bool  // faults that the tests come past
	bound        time.Duration // of one run
}

// buildSuite builds the tests of pkg with the overlay and plays them without
// any fault.
func buildSuite(ctx context.Context, root, work, overlay, pkg string) (*suite, error) {
	s := &suite{
		program: filepath.Join(work, strings.ReplaceAll(pkg, "/", "-")+".test"),
		dir:     filepath.Join(root, pkg), reached: make(map[int]bool), bound: 10 * time.Minute,
	}
	build := exec.CommandContext(ctx, "go", "test", "-c", "-overlay", overlay, "-ldflags", "-extldflags=-Wl,-z,lazy", "-o", s.program, "./"+pkg)
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the tests of %s: %w\n%s", pkg, err, output)
	}
	list := s.program + ".reached"
	if err := os.WriteFile(list, make([]byte, mostFaults), 0o600); err != nil {
		return nil, err
	}
	if err := os.Chmod(list, 0o666); err != nil {
		return nil, err
	}
	start := time.Now()
	if got, output := s.play(ctx, 0, "MUTANTS_REACHED="+list); got != survived {
		return nil, fmt.Errorf("the tests of %s fail without a fault: %s\n%s", pkg, verdicts[got], output)
	}
	s.bound = 4*time.Since(start) + 8*time.Second
	text, err := os.ReadFile(list)
	if err != nil {
		return nil, err
	}
	for n, reached := range text {
		s.reached[n] = reached != 0
	}
	return s, nil
}

// tempDir is for tests that become another user, who has to get through, and in
// the last one may write.
func tempDir(in, pattern string, mode os.FileMode) (string, error) {
	dir, err := os.MkdirTemp(in, pattern)
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, mode)
}

// play runs the tests with one fault, or with none for 0.
func (s *suite) play(ctx context.Context, number int, env ...string) (verdict, string) {
	if number != 0 && !s.reached[number] {
		return unreached, ""
	}
	tmp, err := tempDir(filepath.Dir(s.program), "run-*", 0o777|os.ModeSticky)
	if err != nil {
		return survived, err.Error()
	}
	defer os.RemoveAll(tmp)
	// The tests end themselves and show where they are; what does not even do
	// that is killed.
	ctx, cancel := context.WithTimeout(ctx, s.bound+5*time.Second)
	defer cancel()
	cmd := alone(ctx, memoryLimit, s.program, "-test.failfast", "-test.timeout="+s.bound.String())
	cmd.Dir, cmd.Env = s.dir, append(append(os.Environ(), "TMPDIR="+tmp, "MUTANT="+strconv.Itoa(number)), env...)
	output, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil || bytes.Contains(output, []byte("panic: test timed out after")):
		return timedOut, string(output)
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return killed, string(output)
	}
	return survived, string(output)
}

// memoryLimit is what a mutant may have of address space, in KiB: some make
// loops that never end and always append.
const memoryLimit = "16777216"

// alone is a command that sees no process but its own, because a mutant may kill
// all that it sees, and of which nothing is left when it has ended. The first
// process is a shell: the tests are not made for being it.
func alone(ctx context.Context, memory string, command ...string) *exec.Cmd {
	args := []string{"--fork", "--pid", "--mount-proc", "--kill-child"}
	if os.Getuid() != 0 {
		args = append(args, "--map-root-user")
	}
	args = append(args, "sh", "-c", `ulimit -v "$0"; "$@"; exit $?`, memory)
	cmd := exec.CommandContext(ctx, "unshare", append(args, command...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// checkAlone says what to do where the machine allows no such thing.
func checkAlone(ctx context.Context) error {
	if output, err := alone(ctx, memoryLimit, "true").CombinedOutput(); err != nil {
		return fmt.Errorf("mutants kill what they see, and get no process namespace of their own here: %w %s; "+
			"install unshare (apt-get install util-linux), in a container run it privileged", err, bytes.TrimSpace(output))
	}
	return nil
}

// writeOverlay writes the changed files to where go build finds them.
func writeOverlay(work string, files map[string]string) (string, error) {
	replace := make(map[string]string)
	for path, text := range files {
		replace[path] = filepath.Join(work, strings.ReplaceAll(path, "/", "_"))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(work, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// scenarios plays a fault against scenarios on the embedded control plane. Its
// runner gets the number from a script, since targets pass on no environment.
func scenarios(ctx context.Context, root, work, overlay, labels string, number int) (verdict, string) {
	program := filepath.Join(work, "runner")
	if _, err := os.Stat(program); err != nil {
		build := exec.CommandContext(ctx, "go", "build", "-race", "-overlay", overlay, "-ldflags", "-extldflags=-Wl,-z,lazy", "-o", program, "./runner")
		build.Dir = root
		if output, err := build.CombinedOutput(); err != nil {
			return survived, string(output)
		}
	}
	script := filepath.Join(work, "runner-"+strconv.Itoa(number))
	text := fmt.Sprintf("#!/bin/sh\nMUTANT=%d exec %s \"$@\"\n", number, program)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		return survived, err.Error()
	}
	// Neither the race detector nor the API server live with a limit.
	cmd := alone(ctx, "unlimited", "make", "--no-print-directory", "-C", root, "e2e-embedded",
		"MUTANT_RUNNER="+script, "LABELS="+labels, "ARTIFACTS="+filepath.Join(work, "artifacts"))
	output, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(output), "[FAIL]") {
		return killed, string(output)
	}
	return survived, string(output)
}
