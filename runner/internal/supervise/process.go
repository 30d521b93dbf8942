package supervise

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
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
	supervisor *exec.Cmd
	socket     *os.File
	done       chan struct{}
	state      State // once done is closed
}

// message is what the supervisor says; see supervisor/main.c.
type message struct{ Kind, A, B int32 }

// Start starts a program with its supervisor. When it returns nil, the program
// runs. The error is a *Program if that is what could not be run.
func Start(c Command) (*Process, error) {
	path, err := program()
	if err != nil {
		return nil, err
	}
	prepare()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket for the supervisor: %w", err)
	}
	unix.SetNonblock(ends[0], true) // so that no thread waits for it
	p := &Process{command: c, socket: os.NewFile(uintptr(ends[0]), "supervisor"), done: make(chan struct{})}
	theirs := os.NewFile(uintptr(ends[1]), "runner")
	p.supervisor = &exec.Cmd{
		Path:        path,
		Args:        append([]string{"studio-go-runner-attempt", strconv.FormatInt(c.KillDelay.Milliseconds(), 10), c.Dir, c.Path}, c.Args...),
		Env:         c.Env,
		Dir:         "/",
		Stdout:      c.Stdout,
		Stderr:      c.Stderr,
		WaitDelay:   c.OutputDelay,
		ExtraFiles:  append([]*os.File{theirs}, c.Held...),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err = children.start(p.supervisor)
	theirs.Close()
	if err != nil {
		p.socket.Close()
		if errors.Is(err, unix.E2BIG) { // what it was given is the task's
			return nil, &Program{unix.E2BIG}
		}
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	m, err := p.hear()
	go p.attend(err)
	switch errno := syscall.Errno(max(m.A, -m.A)); {
	case err != nil: // it ended before it said anything
		<-p.done
		if end := p.supervisor.ProcessState; end.Exited() {
			return nil, fmt.Errorf("start the supervisor: %s", end)
		}
		return p, nil // something, most likely the task, was fast
	case m.A == 0:
		return p, nil
	case m.A > 0 && Own(errno):
		err = &Program{errno}
	case m.A > 0:
		err = errno
	default:
		err = fmt.Errorf("prepare the process: %w", errno)
	}
	<-p.done
	return nil, err
}

func (p *Process) hear() (m message, err error) {
	err = binary.Read(p.socket, binary.NativeEndian, &m)
	return m, err
}

// attend listens to the supervisor until it ends, and then does what is left.
func (p *Process) attend(err error) {
	defer close(p.done)
	known, done := false, false
	for err == nil && !done {
		var m message
		m, err = p.hear()
		switch m.Kind {
		case 'e', 'd':
			p.state.Status, p.state.Asked, known = syscall.WaitStatus(m.A), m.B != 0, true
			done = m.Kind == 'd'
		case 'u':
			p.command.Stuck(int(m.A))
		}
	}
	if !done {
		p.state.Unsupervised = !known
		children.endOrphans(p.supervisor.Process.Pid, p.command.Stuck)
	}
	p.state.OutputOpen = errors.Is(children.wait(p.supervisor), exec.ErrWaitDelay)
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

// Prepare does early what may be refused later. It makes threads: a Go program that
// needs one and does not get it, because tasks have used up what the user may have,
// is aborted.
func Prepare(threads int) error {
	_, err := program()
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
