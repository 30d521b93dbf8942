package supervise

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// children keeps apart the children that this process started and those that it
// was given: as a subreaper or the first process of a container it is the parent
// of whatever has lost its own.
var children = family{started: make(map[int]bool)}

type family struct {
	mu      sync.Mutex
	started map[int]bool // supervisors, by their ID, until they were waited for
}

func (f *family) start(path string, args []string, attr *syscall.ProcAttr) (pid int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pid, err = syscall.ForkExec(path, args, attr)
	if err == nil {
		f.started[pid] = true
	}
	return pid, err
}

func (f *family) wait(pid int) (end syscall.WaitStatus) {
	for {
		if _, err := syscall.Wait4(pid, &end, 0, nil); err != unix.EINTR {
			break
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.started, pid)
	return end
}

// given lists the living and the ended children that this process did not start.
// Supervisors lead sessions, so nothing of an attempt is in this process's own;
// what is there was started here, and somebody waits for it. An error says that there may
// be more: without a descriptor nobody can look, and the children of a thread that has
// ended are another's.
func (f *family) given() (pids []int, err error) {
	session, _ := unix.Getsid(0) // of this process, which cannot fail
	threads, err := os.ReadDir("/proc/self/task")
	for _, thread := range threads {
		text, unread := os.ReadFile("/proc/self/task/" + thread.Name() + "/children")
		err = errors.Join(err, unread)
		for _, field := range strings.Fields(string(text)) {
			pid, _ := strconv.Atoi(field) // the kernel's
			if other, gone := unix.Getsid(pid); gone == nil && other != session && !f.started[pid] {
				pids = append(pids, pid)
			}
		}
	}
	return pids, err
}

// collect waits for those of the given children that have ended, after a signal
// to all of them, and returns all of them: what one of them has started is given to
// this process as that one ends, so there may be others now even if none is left.
func (f *family) collect(signal unix.Signal) (given []int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	given, err = f.given()
	for _, pid := range given {
		unix.Kill(pid, signal)
		unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
	return given, err
}

// endOrphans ends what a supervisor leaves that was ended itself. Every child that
// was given to this process is that, or comes from outside of any attempt, as
// from kubectl exec.
func (f *family) endOrphans(supervisor int, stuck func(pid int)) {
	unix.Waitid(unix.P_PID, supervisor, nil, unix.WEXITED|unix.WNOWAIT, nil) // then they are here
	begin, told := time.Now(), false
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		given, err := f.collect(unix.SIGKILL)
		if len(given) == 0 && err == nil {
			return
		}
		if !told && time.Since(begin) > stuckAfter && len(given) > 0 {
			stuck(given[0])
			told = true
		}
		time.Sleep(pause)
	}
}

// stuckAfter is how long KILL may take; it is stuck_ms of the supervisor.
const stuckAfter = time.Second

// goOn has supervisors go on that were stopped, most likely by their tasks: they would
// hear neither of an end nor of an order.
func (f *family) goOn() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for pid := range f.started {
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WNOHANG, nil); err == nil && info.Signo != 0 {
			unix.Kill(pid, unix.SIGCONT)
		}
	}
}

// reapPause lets those wait for their children who started them, and many ends cost
// one look. To be told of each would cost every task more.
const reapPause = time.Second

// Reap waits for the children that this process was given, until ctx ends. It
// waits for no child of which it does not know that: beside os/exec, a wait for
// any child takes exit statuses away. Supervisors that were stopped go on.
func Reap(ctx context.Context) error {
	prepare()
	tick := time.Tick(reapPause)
	for {
		select {
		case <-tick:
		case <-ctx.Done():
			return nil
		}
		children.goOn()
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == nil && info.Signo != 0 {
			children.collect(0)
		}
	}
}
