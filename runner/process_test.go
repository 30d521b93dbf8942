package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// process is a runner as people start it. TestMain puts the program into PATH.
type process struct {
	testing.TB
	*exec.Cmd
	spool, address string
	ended          chan struct{}
}

var servingAt = regexp.MustCompile(`msg=serving .*address=(\S+)`)

// start starts a runner whose log goes through a pipe, and waits until it serves.
func start(t testing.TB, through ...string) (*process, *os.File) {
	t.Helper()
	dir := t.TempDir()
	spool := filepath.Join(dir, "spool")
	return startIn(t, dir, spool, append(through, "runner", "serve", "--spool", spool)...)
}

// startIn also says where the runner's last word and its temporary files go.
func startIn(t testing.TB, dir, spool string, args ...string) (*process, *os.File) {
	t.Helper()
	p := &process{TB: t, spool: spool, ended: make(chan struct{})}
	args = append(args, "--listen", "127.0.0.1:0", "--nvml-library", "none",
		"--termination-log", filepath.Join(dir, "last-words"))
	p.Cmd = exec.Command(args[0], args[1:]...)
	p.Env = append(os.Environ(), "HOME="+dir, "KUBECONFIG=", "TMPDIR="+dir)
	log, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stderr = write
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	go func() { _ = p.Wait(); close(p.ended) }()
	t.Cleanup(func() { _ = p.Process.Kill(); <-p.ended; log.Close() })
	for lines := bufio.NewReaderSize(log, 16); ; { // it reads no further than it must
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the log ends: %v", err)
		}
		if at := servingAt.FindStringSubmatch(line); at != nil {
			p.address = at[1]
			return p, log
		}
	}
}

func (p *process) send(signals ...syscall.Signal) {
	p.Helper()
	for _, s := range signals {
		if err := p.Process.Signal(s); err != nil {
			p.Fatalf("signal %d: %v", s, err)
		}
	}
}

// ask gets one of the endpoints.
func (p *process) ask(path string) string {
	p.Helper()
	client := http.Client{Timeout: time.Minute}
	response, err := client.Get("http://" + p.address + path)
	if err != nil {
		select {
		case <-p.ended:
			p.Fatalf("the runner ended: %s", p.ProcessState)
		case <-time.After(time.Second):
			p.Fatalf("the runner does not answer: %v", err)
		}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		p.Fatal(err)
	}
	return string(body)
}

// until waits until an endpoint says something, by a regular expression.
func (p *process) until(path, want string) {
	p.Helper()
	limit := time.Now().Add(time.Minute)
	for says := regexp.MustCompile(want); !says.MatchString(p.ask(path)); {
		if time.Now().After(limit) {
			p.Fatalf("%s does not say %s, but\n%s", path, want, p.ask(path))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (p *process) submit(document string) {
	p.Helper()
	submit := exec.Command("runner", "submit", "--spool", p.spool)
	submit.Stdin = strings.NewReader(document)
	if out, err := submit.CombinedOutput(); err != nil {
		p.Fatalf("submit: %v\n%s", err, out)
	}
}

func (p *process) wantExit(want int, within time.Duration) {
	p.Helper()
	select {
	case <-p.ended:
		if got := p.ProcessState; got.ExitCode() != want {
			p.Errorf("the runner ended with %s, want exit code %d", got, want)
		}
	case <-time.After(within):
		p.Fatalf("the runner has not ended after %s", within)
	}
}

// drain reads what is left of a log, until that is closed at the end of the test.
// Nobody waits for it: a runner that does not end would hold up its test.
func drain(log io.Reader) {
	go func() { _, _ = io.Copy(io.Discard, log) }()
}

// R7: no signal but TERM, INT, HUP and QUIT ends or stops a runner.
func TestOtherSignalsDoNothing(t *testing.T) {
	t.Parallel()
	p, log := start(t)
	drain(log)
	for n := syscall.Signal(1); n <= 64; n++ {
		switch n {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP:
		case 32, 33, 34: // the C library and Go keep them to themselves
		default:
			p.send(n)
			if got := p.ask("/livez"); got != "ok\n" {
				t.Errorf("after signal %d (%s): %q", n, n, got)
			}
		}
	}
	p.send(syscall.SIGTERM)
	p.wantExit(143, time.Minute)
}

// A terminal that goes takes its runner along, but not one under nohup.
func TestHangUp(t *testing.T) {
	t.Parallel()
	if signal.Ignored(syscall.SIGHUP) {
		t.Skip("these tests are under nohup")
	}
	p, log := start(t)
	drain(log)
	p.send(syscall.SIGHUP)
	p.wantExit(143, time.Minute)

	kept, log := start(t, "sh", "-c", `trap "" HUP; exec "$@"`, "sh")
	drain(log)
	kept.send(syscall.SIGHUP)
	kept.submit(`{command: "true"}`)
	kept.until("/statusz", `"succeeded": 1`)
	kept.send(syscall.SIGINT)
	kept.wantExit(143, time.Minute)
}

// GNU timeout and others signal a process and then its group.
func TestTwoSignalsAtOnceAreOne(t *testing.T) {
	t.Parallel()
	p, log := start(t)
	drain(log)
	end := filepath.Join(t.TempDir(), "end")
	p.submit(fmt.Sprintf(`{command: sh, args: [-c, "until [ -e %s ]; do sleep 0.05; done"]}`, end))
	p.until("/statusz", `"running": 1`)
	p.send(syscall.SIGTERM, syscall.SIGINT) // the same one twice might come once
	p.until("/statusz", `"phase": "Draining"`)
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.wantExit(143, time.Minute)
}

// The reader of the log goes away: neither the runner nor its task does.
//
// catalogue: row 70
func TestALogThatNobodyHolds(t *testing.T) {
	t.Parallel()
	p, log := start(t)
	log.Close()
	p.submit(`{command: "true"}`)
	p.until("/statusz", `"succeeded": 1`)
	p.until("/metrics", "\nstudioml_runner_log_lines_dropped_total [1-9]") // once they were written
	p.send(syscall.SIGTERM)
	p.wantExit(143, time.Minute)
}

// The reader of the log sleeps: tasks and signals go on.
//
// catalogue: row 70
func TestALogThatNobodyReads(t *testing.T) {
	t.Parallel()
	p, log := start(t)
	const tasks, smallest = 40, 4096
	if _, err := unix.FcntlInt(log.Fd(), unix.F_SETPIPE_SZ, smallest); err != nil {
		t.Fatal(err)
	}
	var documents bytes.Buffer
	for i := range tasks {
		fmt.Fprintf(&documents, "{id: t%d, command: \"true\"}\n---\n", i)
	}
	p.submit(documents.String())
	p.until("/statusz", fmt.Sprintf(`"succeeded": %d`, tasks))
	p.send(syscall.SIGTERM)
	p.wantExit(143, time.Minute)
}

// Tasks may use up what the user may have of threads, so a runner has its own early.
func TestThreadsAreReserved(t *testing.T) {
	t.Parallel()
	p, log := start(t)
	drain(log)
	if threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.Process.Pid)); err != nil || len(threads) < reservedThreads {
		t.Errorf("%d threads, %v; want %d", len(threads), err, reservedThreads)
	}
	p.send(syscall.SIGTERM)
	p.wantExit(143, time.Minute)
}

// What ends without a word has left one before; see the pod's last state.
func TestTheLastWord(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		signal syscall.Signal
		code   int
		want   string
	}{
		"killed":            {syscall.SIGKILL, -1, "could not get a thread or memory"},
		"aborted by itself": {syscall.SIGQUIT, 2, "could not get a thread or memory"}, // the runtime's own end, as without a thread
		"asked":             {syscall.SIGTERM, 143, "termination signal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, log := start(t)
			drain(log)
			p.send(test.signal)
			p.wantExit(test.code, time.Minute)
			if said, err := os.ReadFile(filepath.Join(filepath.Dir(p.spool), "last-words")); err != nil || !strings.Contains(string(said), test.want) {
				t.Errorf("the last word is %q, %v; want %s in it", said, err, test.want)
			}
		})
	}
}

// Runners that start together sweep, and make what is not to be swept.
func TestARunnerStartsWhileAnotherSweeps(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	var sweeper sync.WaitGroup
	sweeper.Go(func() {
		for ctx.Err() == nil {
			sweepDrainDirs(ctx)
		}
	})
	for range 500 {
		dir, remove, err := drainDir()
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
		remove()
	}
	cancel()
	sweeper.Wait()
}

// What dead runners have left in TMPDIR goes with the next start; what a living one
// has, or others, stays.
func TestLeftoversOfDeadRunnersAreSwept(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	dead, living, other := filepath.Join(tmp, "studio-go-runner-drain-dead"), "", filepath.Join(tmp, "studio-go-runner-else")
	for _, dir := range []string{filepath.Join(dead, "sub"), other} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dead, "draining"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	living, removeFirst, err := drainDir()
	if err != nil {
		t.Fatal(err)
	}
	second, remove, err := drainDir()
	if err = errors.Join(err, sweepDrainDirs(t.Context())); err != nil {
		t.Fatal(err)
	}
	for path, there := range map[string]bool{dead: false, living: true, second: true, other: true} {
		if _, err := os.Stat(path); (err == nil) != there {
			t.Errorf("%s: %v, want it there: %t", path, err, there)
		}
	}
	for _, remove := range []func() error{removeFirst, remove} {
		if err := remove(); err != nil {
			t.Error(err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, drainDirs)); len(left) != 0 {
		t.Errorf("left at the end: %v", left)
	}
}
