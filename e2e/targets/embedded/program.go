package embedded

import (
	"os/exec"
	"syscall"
)

// program is one that runs until somebody ends it.
type program struct {
	*exec.Cmd
	ended chan struct{} // closed when it has ended, and all that it has printed was taken
}

// start starts a program that dies with this process. More exactly, with the thread
// that starts it, which Go ends only for goroutines that locked it; the tests have none.
func start(cmd *exec.Cmd) (*program, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &program{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // its ProcessState says it all
		close(p.ended)
	}()
	return p, nil
}

// hasEnded says whether it has.
func (p *program) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// kill ends the program, and what it has started in its process group, and waits for that.
func (p *program) kill() {
	if !p.hasEnded() { // else its number may be somebody else's by now
		_ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
	}
	<-p.ended
}
