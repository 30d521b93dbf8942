package supervise_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/internal/supervise"
)

func shell(t *testing.T, script string) supervise.Command {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	return supervise.Command{
		Path: sh, Args: []string{"sh", "-c", script}, Dir: "/", Stdout: io.Discard, Stderr: io.Discard,
		OutputDelay: time.Minute, KillDelay: time.Hour, Stuck: func(int) {},
	}
}

// A runner lives for months: of an attempt nothing is kept, however it ended.
func TestNothingIsKept(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it would close what was forgotten
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(entries)
	}
	missing, large := shell(t, ""), shell(t, "")
	missing.Path = "/missing"
	large.Args = append(large.Args, strings.Repeat("x", 1<<20))
	before := 0
	for i := range 6 {
		p, err := supervise.Start(shell(t, "exit 3"))
		if err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		if s := p.State(); s.Status.ExitStatus() != 3 || s.Asked || s.Unsupervised || s.OutputOpen {
			t.Errorf("state %+v, want exit status 3 and no more", s)
		}
		for c, want := range map[*supervise.Command]error{&missing: unix.ENOENT, &large: unix.E2BIG} {
			var own *supervise.Program
			if _, err := supervise.Start(*c); !errors.As(err, &own) || !errors.Is(err, want) {
				t.Errorf("start of what cannot be run gave %v, want that it is the program's: %v", err, want)
			}
			if n := supervise.Started(); n != 0 {
				t.Errorf("%d supervisors are left", n)
			}
		}
		if i == 0 {
			before = files()
		}
	}
	if after := files(); after > before+1 {
		t.Errorf("%d files are open, %d were after the first attempt", after, before)
	}
}

// What keeps the supervisor from starting the program is not the program's fault.
func TestThatIsNotTheProgramsFault(t *testing.T) {
	nowhere, nothing := shell(t, ""), shell(t, "")
	nowhere.Dir = "/missing"
	nothing.Args = nil // of which the supervisor makes nothing, and ends
	for want, c := range map[string]supervise.Command{"prepare the process: no such file or directory": nowhere, "start the supervisor: exit status 1": nothing} {
		_, err := supervise.Start(c)
		if err == nil || err.Error() != want || errors.As(err, new(*supervise.Program)) {
			t.Errorf("start gave %v, want %s", err, want)
		}
	}
}

// A program that cannot make a thread is aborted, so there are some for later.
func TestPrepareMakesThreads(t *testing.T) {
	const threads = 80
	if err := supervise.Prepare(threads); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("true").Run(); err != nil { // meanwhile those that do not stay have ended
		t.Fatal(err)
	}
	if all, err := os.ReadDir("/proc/self/task"); err != nil || len(all) < threads {
		t.Errorf("%d threads, %v, want %d", len(all), err, threads)
	}
}

// Where make has not built the supervisor, it is built at the start.
func TestCompile(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	source, err := os.ReadFile("supervisor/main.c")
	if err != nil {
		t.Fatal(err)
	}
	program, err := supervise.Compile(source)
	if err != nil || !strings.HasPrefix(string(program), "\x7fELF") {
		t.Errorf("compile gave %d bytes and %v, want a program", len(program), err)
	}
	if _, err := supervise.Compile([]byte("no C")); err == nil || !strings.Contains(err.Error(), "error") {
		t.Errorf("compile of no C gave %v, want what gcc says", err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	t.Setenv("TMPDIR", "/missing")
	if _, err := supervise.Compile(source); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("compile in no directory gave %v", err)
	}
}

// A supervisor holds the locks of many GPUs: the descriptors that it gets for them
// must not take the place of its own program's, which is found by its number.
func TestManyFilesAreHeld(t *testing.T) {
	supervise.Anew()
	if err := supervise.Prepare(0); err != nil { // before there are locks, so at a low number
		t.Fatal(err)
	}
	for range 4 { // as the first attempt of a runner, and as later ones
		c := shell(t, "exit 3")
		for range 60 {
			f, err := os.Open("/dev/null")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			c.Held = append(c.Held, f)
		}
		p, err := supervise.Start(c)
		if err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		if got := p.State().Status.ExitStatus(); got != 3 {
			t.Errorf("exit status %d, want 3", got)
		}
	}
}

// The child makes room for what it gets above the highest number of it, whatever that is.
func TestAFileIsHeldAtAnyNumber(t *testing.T) {
	for number := 64; number < 110; number++ {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, number)
		if err != nil {
			t.Fatal(err)
		}
		c := shell(t, "exit 3")
		c.Held = []*os.File{os.NewFile(uintptr(fd), "held")}
		p, err := supervise.Start(c)
		c.Held[0].Close()
		if err != nil {
			t.Errorf("start with a lock at %d gave %v", fd, err)
			continue
		}
		<-p.Done()
		if got := p.State().Status.ExitStatus(); got != 3 {
			t.Errorf("exit status %d with a lock at %d, want 3", got, fd)
		}
	}
}

// A lock on what a task reads is the task's, and ends with it.
func TestNoLockIsLeftOnWhatTasksRead(t *testing.T) {
	if _, err := exec.LookPath("flock"); err != nil {
		t.Skip(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := unix.Flock(int(null.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Skip("somebody else has it: ", err)
	}
	unix.Flock(int(null.Fd()), unix.LOCK_UN)
	p, err := supervise.Start(shell(t, "flock -n 0"))
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if got := p.State().Status.ExitStatus(); got != 0 {
		t.Fatalf("exit status %d", got)
	}
	if err := unix.Flock(int(null.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("after the task: %v", err)
	}
}

// A file for which the kernel cannot wait would be read as if it had ended.
func TestWhatCannotBeWaitedForIsRefused(t *testing.T) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ends[1])
	f, err := supervise.Waitable(ends[0])
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	fd, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := supervise.Waitable(fd); !errors.Is(err, os.ErrNoDeadline) {
		t.Errorf("a regular file gave %v", err)
	}
	if err := unix.Close(fd); err != unix.EBADF {
		t.Errorf("it is left open (%v)", err)
	}
}

// The runner is woken late where that saves time, its tasks are not.
func TestTasksHaveTheUsualTimerSlack(t *testing.T) {
	const usual, patient = 50_000, 500_000 // ns
	own, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || own == usual {
		t.Errorf("this process has the usual timer slack (%v)", err)
	}
	want := own // another one was given to this process
	if own == patient {
		want = usual
	}
	var out strings.Builder
	c := shell(t, "cat /proc/self/timerslack_ns")
	c.Stdout = &out
	p, err := supervise.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if got := strings.TrimSpace(out.String()); got != strconv.Itoa(want) {
		t.Errorf("the task has a timer slack of %s ns, want %d", got, want)
	}
}
