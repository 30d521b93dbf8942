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

	"golang.org/x/sys/unix"
)

// verdict is what became of a fault.
type verdict string

const (
	unplayed verdict = "not played"
	survived verdict = "survived"
	killed   verdict = "killed"
	timedOut verdict = "timed out" // noticed by a test that did not end in its time
)

// suite is the tests of one package, built with all the faults of an area.
type suite struct {
	program, dir string
	tests        string        // that count; empty for all
	bound        time.Duration // of one run
	said         string        // without a fault
}

// buildSuite builds the tests of a package with the overlay and plays those that
// count without any fault.
func buildSuite(ctx context.Context, root, work, overlay, which string) (*suite, error) {
	pkg, tests, _ := strings.Cut(which, " ")
	program := filepath.Join(work, strings.ReplaceAll(pkg, "/", "-")+".test")
	if err := goBuild(ctx, root, overlay, program, "test", "-c", "./"+pkg); err != nil {
		return nil, err
	}
	s := &suite{program: program, dir: filepath.Join(root, pkg), tests: tests, bound: 10 * time.Minute}
	start := time.Now()
	if s.play(ctx, 0) != survived {
		return nil, fmt.Errorf("the tests of %s fail without a fault:\n%s", pkg, s.said)
	}
	s.bound = 4*time.Since(start) + 8*time.Second
	return s, nil
}

func goBuild(ctx context.Context, root, overlay, program string, how ...string) error {
	last := len(how) - 1
	args := append(how[:last:last], "-overlay", overlay, "-ldflags", "-extldflags=-Wl,-z,lazy", "-o", program, how[last])
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, output)
	}
	return nil
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
func (s *suite) play(ctx context.Context, number int) verdict {
	tmp, err := tempDir(memory(), "run-*", 0o777|os.ModeSticky)
	if err != nil {
		return unplayed
	}
	defer os.RemoveAll(tmp)
	// The tests end themselves; what does not even do that is killed.
	ctx, cancel := context.WithTimeout(ctx, s.bound+5*time.Second)
	defer cancel()
	cmd := alone(ctx, memoryLimit, s.program, "-test.short", "-test.failfast", "-test.run="+s.tests, "-test.timeout="+s.bound.String())
	cmd.Dir, cmd.Env = s.dir, append(os.Environ(), "TMPDIR="+tmp, "MUTANT="+strconv.Itoa(number))
	output, err := cmd.CombinedOutput()
	if number == 0 {
		s.said = string(output)
	}
	switch {
	case ctx.Err() != nil || bytes.Contains(output, []byte("panic: test timed out after")):
		return timedOut
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return killed
	}
	return survived
}

// memory is a place for files in memory where there is one, as the tests of queues sync
// thousands of them, and programs in it can be started; else empty.
func memory() string {
	const place = "/dev/shm"
	var stat unix.Statfs_t
	if unix.Statfs(place, &stat) != nil || stat.Type != unix.TMPFS_MAGIC || stat.Flags&unix.ST_NOEXEC != 0 || unix.Access(place, unix.W_OK) != nil {
		return ""
	}
	return place
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
	overlay := filepath.Join(work, "overlay.json")
	return overlay, errors.Join(err, os.WriteFile(overlay, text, 0o600))
}

// scenarios plays a fault against scenarios on the embedded control plane. Its
// runner gets the number from a script, since targets pass on no environment.
func scenarios(ctx context.Context, root, work, overlay, labels string, number int) verdict {
	program, script := filepath.Join(work, "runner"), filepath.Join(work, "runner-"+strconv.Itoa(number))
	text := fmt.Sprintf("#!/bin/sh\nMUTANT=%d exec %s \"$@\"\n", number, program)
	err := errors.Join(goBuild(ctx, root, overlay, program, "build", "-race", "./runner"), os.WriteFile(script, []byte(text), 0o700))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return survived
	}
	// Neither the race detector nor the API server live with a limit.
	output, err := alone(ctx, "unlimited", "make", "--no-print-directory", "-C", root, "e2e-embedded",
		"MUTANT_RUNNER="+script, "LABELS="+labels, "ARTIFACTS="+filepath.Join(work, "artifacts")).CombinedOutput()
	all := strings.TrimSpace(string(output))
	fmt.Printf("scenarios: %s\n", all[strings.LastIndexByte(all, '\n')+1:]) // how many passed, or why none was played
	if err != nil && strings.Contains(all, "[FAIL]") {
		return killed
	}
	return survived
}
