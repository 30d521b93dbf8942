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
	"runtime"
	"strings"
	"syscall"
	"time"
)

// verdict is what became of a fault.
type verdict string

const (
	unplayed verdict = "not played"
	survived verdict = "survived"
	accepted verdict = "accepted" // survived, for a reason
	killed   verdict = "killed"
	timedOut verdict = "timed out" // noticed by a test that did not end in its time
)

// suite is what may notice a fault: the tests of a package, or scenarios.
type suite struct {
	command  []string
	dir      string
	memory   string // that a run may have of address space, in KiB
	together int    // runs at the same time
	bound    time.Duration
}

// scenarios is the suite that is no package.
const scenarios = "scenarios"

// suite builds one, with all the faults of the area, and plays it without any.
func (a *area) suite(ctx context.Context, which string) (*suite, error) {
	pkg, tests, _ := strings.Cut(which, " ") // those that count, all without
	program := filepath.Join(a.work, strings.ReplaceAll(pkg, "/", "-")+".test")
	// Many only wait. Some faults make loops that never end and always append.
	s := &suite{dir: pkg, memory: "16777216", together: 2 * runtime.NumCPU(), bound: 20 * time.Minute}
	// That a test hangs is seen here.
	s.command = []string{program, "-test.short", "-test.failfast", "-test.timeout=2h", "-test.run=" + tests}
	build := []string{"test", "-c"}
	if which == scenarios {
		pkg, build = "runner", []string{"build", "-race"}
		// Neither the race detector nor the API server live with a limit.
		s.dir, s.memory, s.together = ".", "unlimited", 1
		s.command = []string{"make", "--no-print-directory", "e2e-embedded",
			"MUTANT_RUNNER=" + program, "LABELS=" + a.Labels, "ARTIFACTS=" + filepath.Join(a.work, "artifacts")}
	}
	build = append(build, "-overlay", a.overlay(), "-ldflags", "-extldflags=-Wl,-z,lazy", "-o", program, "./"+pkg)
	if output, err := exec.CommandContext(ctx, "go", build...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(build, " "), err, output)
	}
	start, none := time.Now(), &fault{}
	if output := s.play(ctx, none); none.verdict != survived {
		return nil, fmt.Errorf("%s fails without a fault:\n%s", which, output)
	}
	s.bound = 4*time.Since(start) + 8*time.Second
	return s, nil
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

// play plays it with one fault, or with none, notes what became of that, and returns
// what was printed.
func (s *suite) play(ctx context.Context, f *fault) []byte {
	ctx, cancel := context.WithTimeout(ctx, s.bound)
	defer cancel()
	cmd := alone(ctx, s.memory, s.command...)
	cmd.Dir, cmd.Env = s.dir, append(os.Environ(), fmt.Sprintf("MUTANT=%d", f.number))
	output, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		f.verdict = timedOut
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		f.verdict = killed
	case f.reason != "":
		f.verdict = accepted
	default:
		f.verdict = survived
	}
	return output
}

// alone is a command that sees no process but its own, because a mutant may kill
// all that it sees, and of which nothing is left when it has ended. Its temporary files
// are in memory, as the tests of queues sync thousands of them. The first process is a
// shell: the tests are not made for being it.
func alone(ctx context.Context, memory string, command ...string) *exec.Cmd {
	args := []string{"--fork", "--pid", "--mount-proc", "--kill-child"}
	if os.Getuid() != 0 {
		args = append(args, "--map-root-user")
	}
	const script = `export TMPDIR=/dev/shm; mount -t tmpfs -o mode=1777 tmpfs $TMPDIR && ulimit -v "$0" && "$@"; exit $?`
	cmd := exec.CommandContext(ctx, "unshare", append(append(args, "sh", "-c", script, memory), command...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// checkAlone says what to do where the machine allows no such thing.
func checkAlone(ctx context.Context) error {
	if output, err := alone(ctx, "unlimited", "true").CombinedOutput(); err != nil {
		return fmt.Errorf("mutants kill what they see, and get no process namespace of their own here: %w %s; "+
			"install unshare (apt-get install util-linux), in a container run it privileged", err, bytes.TrimSpace(output))
	}
	return nil
}
