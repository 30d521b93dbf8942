package supervise_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/internal/scarce"
	"github.com/studioml/studio-go-runner/runner/internal/supervise"
)

// Orphans that come from elsewhere, as from kubectl exec to a runner that is the
// first process, are collected, while nobody loses the exit status of a child.
func TestReap(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var reaper sync.WaitGroup
	reaper.Go(func() { supervise.Reap(ctx) })
	defer reaper.Wait()
	defer cancel()
	wantOrphan(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 20 {
				// The orphan, in a session of its own, ends after its parent.
				script := fmt.Sprintf("(setsid sh -c 'sleep 0.0%d' &); exit %d", i%5, i)
				err := exec.Command("sh", "-c", script).Run()
				if got := exitCode(err); got != i {
					t.Errorf("exit status %d (%v), want %d", got, err, i)
				}
			}
		})
	}
	all.Wait()
	var left string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if left = childrenOfThis(t); left == "" {
			return
		}
	}
	t.Errorf("children that nobody waits for: %s", left)
}

// An attempt that ends as it should ends nothing that comes from elsewhere.
func TestOrphansFromElsewhereStay(t *testing.T) {
	attempt := func() {
		p, err := supervise.Start(shell(t, "exit 0"))
		if err != nil {
			t.Fatal(err)
		}
		<-p.Done()
	}
	attempt() // from now on this process gets orphans
	wantOrphan(t)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	script := "(setsid sh -c 'echo $$ >" + pipe + "; exec sleep 1000' &)"
	if err := exec.Command("sh", "-c", script).Run(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(pipe)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	attempt()
	if err := unix.Kill(pid, 0); err != nil {
		t.Errorf("the orphan: %v, want that it lives", err)
	}
	unix.Kill(pid, unix.SIGKILL)
	unix.Wait4(pid, nil, 0, nil)
}

// withSupervisor starts a script, which writes the ID of its supervisor to a pipe.
func withSupervisor(t *testing.T, script string) (p *supervise.Process, supervisor int) {
	t.Helper()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := supervise.Start(shell(t, fmt.Sprintf(script, pipe)))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(pipe)
	if err == nil {
		supervisor, err = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return p, supervisor
}

// What a supervisor leaves comes to this process one behind the other, each as its own
// parent ends; the last one goes as well.
func TestALineOfOrphansIsEnded(t *testing.T) {
	for range 10 {
		p, supervisor := withSupervisor(t, `line() { if [ $1 = 0 ]; then echo $PPID >%s; sleep 1000; else (line $(($1 - 1)); :); fi; }; line 8; :`)
		unix.Kill(supervisor, unix.SIGKILL)
		<-p.Done()
		if left := childrenOfThis(t); left != "" {
			t.Fatalf("still there: %s", left)
		}
	}
}

// As long as nobody can look whether something of an attempt is left, it has not ended.
func TestOrphansThatNobodyCanSee(t *testing.T) {
	p, supervisor := withSupervisor(t, `echo $PPID >%s; exec sleep 1000`)
	giveBack := scarce.Descriptors(t, 0)
	unix.Kill(supervisor, unix.SIGKILL)
	select {
	case <-p.Done():
		giveBack()
		t.Fatalf("it has ended, with this of it: %q", childrenOfThis(t))
	case <-time.After(300 * time.Millisecond): // there is no sign of a look that is not done
		giveBack()
	}
	<-p.Done()
	if left := childrenOfThis(t); left != "" {
		t.Errorf("still there: %s", left)
	}
}

// A supervisor that its task has stopped hears of the task's end, and of an order.
func TestAStoppedSupervisorGoesOn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var reaper sync.WaitGroup
	reaper.Go(func() { supervise.Reap(ctx) })
	defer reaper.Wait()
	defer cancel()
	for name, test := range map[string]struct {
		then  string
		order func(*supervise.Process)
	}{
		"its task ends":      {"exit 0", func(*supervise.Process) {}},
		"its task is killed": {"exec sleep 1000", (*supervise.Process).Kill},
	} {
		c := shell(t, "kill -STOP $PPID; echo $PPID; "+test.then)
		text, out := io.Pipe()
		c.Stdout = out
		p, err := supervise.Start(c)
		if err != nil {
			t.Fatal(err)
		}
		var supervisor int
		if _, err := fmt.Fscan(text, &supervisor); err != nil {
			t.Fatal(err)
		}
		test.order(p)
		select {
		case <-p.Done():
		case <-time.After(20 * time.Second):
			unix.Kill(supervisor, unix.SIGCONT)
			t.Fatalf("%s: the attempt goes on", name)
		}
	}
}

// wantOrphan waits until a process that loses its parent gets this one.
func wantOrphan(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		text := orphan(t)
		if fields := strings.Fields(text); len(fields) > 3 && fields[3] == strconv.Itoa(os.Getpid()) {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("an orphan has another parent than %d: %s", os.Getpid(), text)
		}
	}
}

// orphan is what the kernel says of one: 12 (cat) R 1 …
func orphan(t *testing.T) string {
	t.Helper()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	// Its parent has ended when Run returns, and it goes on when the pipe is read.
	if err := exec.Command("sh", "-c", "(setsid sh -c 'exec cat /proc/self/stat >"+pipe+"' &)").Run(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(pipe)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func exitCode(err error) int {
	switch e := err.(type) {
	case nil:
		return 0
	case *exec.ExitError:
		return e.ExitCode()
	}
	return -1
}

func childrenOfThis(t *testing.T) (all string) {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		text, _ := os.ReadFile("/proc/self/task/" + thread.Name() + "/children")
		all += string(text)
	}
	return strings.TrimSpace(all)
}
