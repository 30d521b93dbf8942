package mutants

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/e2e/program"
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
	binary := filepath.Join(a.work, strings.ReplaceAll(pkg, "/", "-")+".test")
	// Many only wait. Some faults make loops that never end and always append.
	s := &suite{dir: pkg, memory: "16777216", together: 2 * runtime.NumCPU(), bound: 20 * time.Minute}
	// That a test hangs is seen here.
	s.command = []string{binary, "-test.short", "-test.failfast", "-test.timeout=2h", "-test.run=" + tests}
	build := []string{"test", "-c"}
	if which == scenarios {
		pkg, build = "runner", []string{"build", "-race"}
		// Neither the race detector nor the API server live with a limit.
		s.dir, s.memory, s.together = ".", "unlimited", 1
		s.command = []string{"make", "--no-print-directory", "e2e-embedded",
			"MUTANT_RUNNER=" + binary, "LABELS=" + a.Labels, "ARTIFACTS=" + filepath.Join(a.work, "artifacts")}
	}
	build = append(build, "-overlay", a.overlay(), "-ldflags", "-w -extldflags=-Wl,-z,lazy", "-o", binary, "./"+pkg)
	if output, err := exec.CommandContext(ctx, "go", build...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(build, " "), err, output)
	}
	start, none := time.Now(), &fault{}
	if err := s.play(ctx, none); none.verdict != survived {
		return nil, fmt.Errorf("%s fails without a fault: %w", which, err)
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

// play plays it with one fault, or with none, and notes what became of that. What was
// printed is in the error.
func (s *suite) play(ctx context.Context, f *fault) error {
	ctx, cancel := context.WithTimeout(ctx, s.bound)
	defer cancel()
	err := alone(ctx, s.dir, s.memory, f.number, s.command...)
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
	return err
}

// alone runs a command that sees no process but its own, because a mutant may kill
// all that it sees, and of which nothing is left when it has ended. Its temporary files
// are in memory, as the tests of queues sync thousands of them. The first process is a
// shell: the tests are not made for being it.
func alone(ctx context.Context, dir, memory string, fault int, command ...string) error {
	args := []string{"--fork", "--pid", "--mount-proc", "--kill-child"}
	if os.Getuid() != 0 {
		args = append(args, "--map-root-user")
	}
	const script = `cd "$1" && shift && export TMPDIR=/dev/shm && mount -t tmpfs -o mode=1777 tmpfs $TMPDIR &&
ulimit -v "$0" && "$@" >&2; exit $?`
	line := slices.Concat([]string{"unshare"}, args, []string{"sh", "-c", script, memory, dir}, command)
	return program.Run(ctx, append(os.Environ(), fmt.Sprintf("MUTANT=%d", fault)), nil, nil, line...)
}

// checkAlone says what to do where the machine allows no such thing.
func checkAlone(ctx context.Context) error {
	if err := alone(ctx, ".", "unlimited", 0, "true"); err != nil {
		return fmt.Errorf("mutants kill what they see, and get no process namespace of their own here: %w; "+
			"install unshare (apt-get install util-linux), in a container run it privileged", err)
	}
	return nil
}
