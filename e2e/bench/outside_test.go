package main_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/controlplane"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
)

// The benchmarks of this package see the runner from outside: the program as it ships.
const program = "../../bin/image/runner"

// plane is the API server of all of them, started when the first one needs it.
var plane = sync.OnceValues(func() (*controlplane.ControlPlane, error) {
	return controlplane.Start(context.Background(), "", nil)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if started { // else it would be started now
		if p, err := plane(); err == nil {
			_ = p.Close()
		}
	}
	os.Exit(code)
}

var started bool

// isolate makes a namespace with the runners' account. The Env can name its kubeconfig.
func isolate(b *testing.B) targets.Env {
	b.Helper()
	started = true
	p, err := plane()
	check(b, err)
	binary, err := filepath.Abs(program)
	check(b, err)
	t, err := embedded.New(embedded.Config{Handle: p.Handle, RunnerBinary: binary})
	check(b, err)
	env, err := t.Isolate(b.Context(), targets.Isolation{Name: "benchmark", NodeMaps: []string{"a"}, Permissions: scenario.PermissionsShipped, Evidence: b.TempDir()})
	check(b, err)
	b.Cleanup(func() { check(b, env.Close(context.Background())) })
	return env
}

func kubeconfig(env targets.Env) string { return env.(interface{ Kubeconfig() string }).Kubeconfig() }

// few is n in the full form of a benchmark, and next to none in the short one.
func few(n int) int {
	if testing.Short() {
		return min(n, 4)
	}
	return n
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// kept is a new directory that stays until all is measured: a file system without a journal
// looks, for each new file, at those that were deleted in the last minutes.
func kept(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp(b.ArtifactDir(), "")
	check(b, err)
	return dir
}

// serving is a runner that was started here.
type serving struct {
	*exec.Cmd
	lines *bufio.Scanner // of its log
}

// serve starts a runner without a cluster, unless the arguments name one. What it is run
// through may be nothing.
func serve(b *testing.B, through []string, args ...string) *serving {
	b.Helper()
	dir := b.TempDir()
	command := append(through, program, "serve", "--listen=127.0.0.1:0", "--nvml-library=none", "--termination-log="+filepath.Join(dir, "last-words"))
	cmd := exec.CommandContext(b.Context(), command[0], append(command[1:], args...)...)
	cmd.Env = runnerEnv(dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := cmd.StderrPipe()
	check(b, err)
	check(b, cmd.Start())
	return &serving{cmd, bufio.NewScanner(log)}
}

// runnerEnv is the environment of a runner that has a directory for itself.
func runnerEnv(dir string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "HOSTNAME=a"}
}

// await reads the log up to the nth line that contains a text, and says when each came.
func (s *serving) await(b *testing.B, n int, text string) (at []time.Time) {
	b.Helper()
	var last string
	for len(at) < n && s.lines.Scan() {
		if last = s.lines.Text(); strings.Contains(last, text) {
			at = append(at, time.Now())
		}
	}
	if len(at) < n {
		b.Fatalf("the runner's log ends after %d of %d lines with %q: %s", len(at), n, text, last)
	}
	return at
}

// end has it end with TERM, if it does not by itself, and reads its log meanwhile.
func (s *serving) end(b *testing.B) {
	b.Helper()
	check(b, s.Process.Signal(syscall.SIGTERM)) // it is not waited for yet, so it is there
	for s.lines.Scan() {
	}
	_ = s.Wait() // 143
}

// submit puts n equal tasks into a queue, which a flag names.
func submit(b *testing.B, queue string, n int, document string) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), program, "submit", queue)
	cmd.Stdin = strings.NewReader(strings.Repeat(document+"\n---\n", n))
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("submit: %v: %s", err, out)
	}
}

// stamps are the times that tasks have written into a file, one a line.
func stamps(b *testing.B, path string) (at []time.Time) {
	b.Helper()
	text, err := os.ReadFile(path)
	check(b, err)
	for line := range strings.Lines(string(text)) {
		seconds, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
		check(b, err)
		at = append(at, time.UnixMicro(int64(seconds*1e6)))
	}
	slices.SortFunc(at, time.Time.Compare)
	return at
}

// stamp is what has bash write one.
func stamp(path string) string { return "echo $EPOCHREALTIME >>" + path }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// quantiles reports how a time is distributed.
func quantiles(b *testing.B, prefix string, all []time.Duration) {
	slices.Sort(all)
	for _, q := range []float64{10, 50, 90, 99, 99.9, 100} {
		b.ReportMetric(milliseconds(all[int(float64(len(all)-1)*q/100)]), fmt.Sprintf("%sp%g-ms", prefix, q))
	}
}
