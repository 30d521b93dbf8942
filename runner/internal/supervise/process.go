package supervise

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command is what to start.
type Command struct {
	Path string   // of the program
	Args []string // with the program's name
	Env  []string
	Dir  string
	// Stdout and Stderr get the output. A process that got its pipe and is no
	// descendant may hold them open; Wait leaves it alone after OutputDelay.
	Stdout, Stderr io.Writer
	OutputDelay    time.Duration
	// KillDelay is the time between TERM and KILL.
	KillDelay time.Duration
	// Held are files that the supervisor keeps open, for the locks on them.
	Held []*os.File
	// Stuck is told of a process that KILL does not end, once.
	Stuck func(pid int)
}

// Program is the error for a program that cannot be run, which is its own fault
// and not the machine's.
type Program struct{ Err error }

func (p *Program) Error() string { return p.Err.Error() }
func (p *Program) Unwrap() error { return p.Err }

// Own says whether an error that kept a program from being started is the
// program's own: it names the program, or what it was given. Whatever else the
// kernel refuses is the machine's.
func Own(err error) bool {
	var errno syscall.Errno
	return !errors.As(err, &errno) || slices.Contains([]syscall.Errno{
		unix.ENOENT, unix.EACCES, unix.EPERM, unix.ENOEXEC, unix.ENOTDIR, unix.EISDIR, unix.ELOOP, unix.ENAMETOOLONG,
		unix.E2BIG, unix.ELIBBAD, unix.EINVAL, unix.ETXTBSY,
	}, errno)
}

// State is how an attempt ended.
type State struct {
	Status syscall.WaitStatus // of the task's process
	// Asked says that it ended after Terminate or Kill, and not before.
	Asked bool
	// Unsupervised says that something ended the supervisor first. Status is not
	// known then.
	Unsupervised bool
	// OutputOpen says that something that is no descendant has the output open.
	OutputOpen bool
}

// Process is a supervised attempt.
type Process struct {
	command    Command
	supervisor int // its ID
	socket     *os.File
	outputs    []*os.File // to read from
	copied     chan bool  // a value for each of them when it has ended, true if its time was over
	done       chan struct{}
	state      State              // once done is closed
	end        syscall.WaitStatus // of the supervisor, likewise
}

// Start starts a program with its supervisor. When it returns nil, the program
// runs. The error is a *Program if that is what could not be run.
func Start(c Command) (*Process, error) {
	if err := program(); err != nil {
		return nil, err
	}
	prepare()
	p := &Process{command: c, copied: make(chan bool), done: make(chan struct{})}
	if err := p.launch(); errors.Is(err, unix.E2BIG) { // what it was given is the task's
		return nil, &Program{unix.E2BIG}
	} else if err != nil {
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	_, failed, _, err := p.hear()
	go p.attend(err)
	switch errno := syscall.Errno(max(failed, -failed)); {
	case err != nil: // it ended before it said anything
		<-p.done
		if p.end.Exited() {
			return nil, fmt.Errorf("start the supervisor: exit status %d", p.end.ExitStatus())
		}
		return p, nil // something, most likely the task, was fast
	case failed == 0:
		return p, nil
	case failed > 0 && Own(errno):
		err = &Program{errno}
	case failed > 0:
		err = errno
	default:
		err = fmt.Errorf("prepare the process: %w", errno)
	}
	<-p.done
	return nil, err
}

// launch starts the supervisor, and what copies the output. Package os/exec would ask the
// kernel twice as often for that, which a short task feels.
func (p *Process) launch() (err error) {
	c := p.command
	var theirs []int
	defer func() {
		for _, f := range theirs {
			unix.Close(f)
		}
		if err != nil {
			p.close()
		}
	}()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	theirs = append(theirs, ends[1])
	if p.socket, err = waitable(ends[0]); err != nil {
		return err
	}
	nothing, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0) // one for each: locks of flock are the open file's
	if err != nil {
		return err
	}
	theirs = append(theirs, nothing)
	// See supervisor/main.c. Its own program is one of them, as at a number that is not
	// for it the child may find another, which it puts away there.
	const path = "/proc/self/fd/6"
	files := []uintptr{uintptr(nothing), 0, 0, uintptr(ends[1]), 0, 0, memory.file.Fd()}
	for i := range 2 {
		if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
			return err
		}
		theirs = append(theirs, ends[1])
		from, err := waitable(ends[0])
		if err != nil {
			return err
		}
		p.outputs = append(p.outputs, from)
		files[1+i], files[4+i] = uintptr(ends[1]), uintptr(ends[0])
	}
	for _, held := range c.Held {
		files = append(files, held.Fd())
	}
	delay := strconv.FormatInt(c.KillDelay.Milliseconds(), 10)
	args := append([]string{"studio-go-runner-attempt", delay, ignored(), c.Dir, c.Path}, c.Args...)
	p.supervisor, err = children.start(path, args, &syscall.ProcAttr{
		Dir:   "/",
		Env:   (&exec.Cmd{Env: c.Env}).Environ(), // the last of several values
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return err
	}
	for i, to := range []io.Writer{c.Stdout, c.Stderr} {
		from := p.outputs[i]
		go func() {
			_, err := io.Copy(to, from)
			from.Close()
			p.copied <- errors.Is(err, os.ErrDeadlineExceeded)
		}()
	}
	return nil
}

// waitable is a file for which no thread waits. Where the kernel refuses that, as above
// fs.epoll.max_user_watches, package os says nothing, and each read would fail: a task
// would succeed without its output.
func waitable(fd int) (*os.File, error) {
	unix.SetNonblock(fd, true)
	f := os.NewFile(uintptr(fd), "attempt")
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		f.Close()
		return nil, fmt.Errorf("the kernel lends no more waits for files: %w", err)
	}
	return f, nil
}

// close closes what was opened for the attempt.
func (p *Process) close() {
	for _, f := range append(p.outputs, p.socket) {
		f.Close() // also of nil
	}
}

// endOutput waits until all output is copied, and says whether something that is no
// descendant holds it open.
func (p *Process) endOutput() (open bool) {
	late := time.AfterFunc(p.command.OutputDelay, func() {
		for _, f := range p.outputs {
			f.SetReadDeadline(time.Now())
		}
	})
	defer late.Stop()
	for range p.outputs {
		if <-p.copied {
			open = true
		}
	}
	return open
}

// hear returns what the supervisor says next; see supervisor/main.c.
func (p *Process) hear() (kind, a, b int32, err error) {
	var message [3]int32
	err = binary.Read(p.socket, binary.NativeEndian, message[:])
	return message[0], message[1], message[2], err
}

// attend listens to the supervisor until it ends, and then does what is left. It has ended
// when the socket has: a wait for that takes no thread.
func (p *Process) attend(err error) {
	defer close(p.done)
	known, done := false, false
	for err == nil {
		var kind, a, b int32
		kind, a, b, err = p.hear()
		switch kind {
		case 'e', 'd':
			p.state.Status, p.state.Asked, known = syscall.WaitStatus(a), b != 0, true
			done = kind == 'd'
		case 'u':
			p.command.Stuck(int(a))
		}
	}
	if !done {
		p.state.Unsupervised = !known
		children.endOrphans(p.supervisor, p.command.Stuck)
	}
	p.end = children.wait(p.supervisor)
	p.state.OutputOpen = p.endOutput()
	p.socket.Close()
}

// Done is closed when nothing of the attempt is left.
func (p *Process) Done() <-chan struct{} { return p.done }

// State is how it ended, once Done is closed.
func (p *Process) State() State { return p.state }

// Terminate sends TERM to all processes of the attempt, and KILL after the delay
// to what is left.
func (p *Process) Terminate() { p.order('t') }

// Kill sends KILL to all processes of the attempt.
func (p *Process) Kill() { p.order('k') }

// order may come too late, and then has nothing to do.
func (p *Process) order(o byte) { p.socket.Write([]byte{o}) }

// prepare makes this process fit to start others, once: what they lose their
// parent to, and what they do not inherit.
var prepare = sync.OnceFunc(func() {
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
})

// ignored are the signals that this process was started to ignore, as a mask in hex: a task
// has the usual handling of all. If it is not known, the supervisor resets each.
var ignored = sync.OnceValue(func() string {
	text, _ := os.ReadFile("/proc/self/status")
	_, mask, _ := strings.Cut(string(text), "\nSigIgn:\t")
	mask, _, _ = strings.Cut(mask, "\n")
	return cmp.Or(mask, "ffffffffffffffff")
})

// Prepare does early what may be refused later. It makes threads: a Go program that
// needs one and does not get it, because tasks have used up what the user may have,
// is aborted.
func Prepare(threads int) error {
	err := program()
	var together, ended sync.WaitGroup
	together.Add(threads)
	for range threads {
		ended.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			together.Done()
			together.Wait() // each has a thread of its own now, which stays
		})
	}
	ended.Wait()
	return err
}
