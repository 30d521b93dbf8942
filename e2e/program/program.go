// Package program runs programs that the harness needs: to their end, or until somebody
// ends them.
package program

import (
	"os/exec"
	"syscall"
)

// Program is one that was started.
type Program struct {
	*exec.Cmd
	// Ended is closed when it has ended, and all that it has printed was taken.
	Ended chan struct{}
}

// Start starts a program that dies with this process. More exactly, with the thread
// that starts it, which Go ends only for goroutines that locked it; the tests have none.
func Start(cmd *exec.Cmd) (*Program, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Program{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // its ProcessState says it all
		close(p.Ended)
	}()
	return p, nil
}

// HasEnded says whether it has.
func (p *Program) HasEnded() bool {
	select {
	case <-p.Ended:
		return true
	default:
		return false
	}
}

// Kill ends the program, and what it has started in its process group, and waits for that.
func (p *Program) Kill() {
	if !p.HasEnded() { // else its number may be somebody else's by now
		_ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
	}
	<-p.Ended
}
