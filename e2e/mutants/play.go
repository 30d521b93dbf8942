package mutants

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
}

// buildSuite builds the tests of a package and plays those that count without any fault.
func (a *area) buildSuite(ctx context.Context, which string) (*suite, error) {
	pkg, tests, _ := strings.Cut(which, " ")
	s := &suite{filepath.Join(a.work, strings.ReplaceAll(pkg, "/", "-")+".test"), filepath.Join(a.root, pkg), tests, 10 * time.Minute}
	if err := a.build(ctx, s.program, pkg, "test", "-c"); err != nil {
		return nil, err
	}
	start := time.Now()
	if v, output := s.play(ctx, ""); v != survived {
		return nil, fmt.Errorf("the tests of %s fail without a fault:\n%s", pkg, output)
	}
	s.bound = 4*time.Since(start) + 8*time.Second
	return s, nil
}

// build makes a program of a package, with all the faults of the area.
func (a *area) build(ctx context.Context, program, pkg string, how ...string) error {
	args := append(how, "-overlay", a.overlay(), "-ldflags", "-extldflags=-Wl,-z,lazy", "-o", program, "./"+pkg)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = a.root
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, output)
	}
	return nil
}

func (a *area) overlay() string { return filepath.Join(a.work, "overlay.json") }

// writeOverlay writes the changed files to where go build finds them.
func (a *area) writeOverlay() error {
	replace := make(map[string]string)
	for path, text := range a.files {
		replace[path] = filepath.Join(a.work, filepath.Base(path))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			return err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	return errors.Join(err, os.WriteFile(a.overlay(), text, 0o600))
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

// play runs the tests with one fault, or with none, and returns what they print.
func (s *suite) play(ctx context.Context, number string) (v verdict, output []byte) {
	tmp, err := tempDir(memory(), "run-*", 0o777|os.ModeSticky)
	if err != nil {
		return unplayed, nil
	}
	defer os.RemoveAll(tmp)
	// The tests end themselves; what does not even do that is killed.
	ctx, cancel := context.WithTimeout(ctx, s.bound+5*time.Second)
	defer cancel()
	cmd := alone(ctx, memoryLimit, s.program, "-test.short", "-test.failfast", "-test.run="+s.tests, "-test.timeout="+s.bound.String())
	cmd.Dir, cmd.Env = s.dir, append(os.Environ(), "TMPDIR="+tmp, "MUTANT="+number)
	output, err = cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil || bytes.Contains(output, []byte("panic: test timed out after")):
		return timedOut, output
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return killed, output
	}
	return survived, output
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

// scenarios plays a fault against scenarios on the embedded control plane. Its
// runner gets the number from a script, since targets pass on no environment.
func (a *area) scenarios(ctx context.Context, number string) verdict {
	program, script := filepath.Join(a.work, "runner"), filepath.Join(a.work, "runner-"+number)
	text := fmt.Sprintf("#!/bin/sh\nMUTANT=%s exec %s \"$@\"\n", number, program)
	err := errors.Join(a.build(ctx, program, "runner", "build", "-race"), os.WriteFile(script, []byte(text), 0o700))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return survived
	}
	// Neither the race detector nor the API server live with a limit.
	output, err := alone(ctx, "unlimited", "make", "--no-print-directory", "-C", a.root, "e2e-embedded",
		"MUTANT_RUNNER="+script, "LABELS="+a.labels, "ARTIFACTS="+filepath.Join(a.work, "artifacts")).CombinedOutput()
	all := strings.TrimSpace(string(output))
	fmt.Printf("scenarios: %s\n", all[strings.LastIndexByte(all, '\n')+1:]) // how many passed, or why none was played
	if err != nil && strings.Contains(all, "[FAIL]") {
		return killed
	}
	return survived
}
