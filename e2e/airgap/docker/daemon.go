package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/e2e/airgap/cache"
)

const (
	// startTimeout is how long a daemon may take until it answers. It takes 3 s
	// on two idle cores.
	startTimeout = 90 * time.Second
	// stopTimeout is how long a daemon may take to stop. It gives its containers
	// 10 s before it kills them.
	stopTimeout = 40 * time.Second
)

// place is where a daemon of ours has its files.
type place struct {
	// run is gone when the machine restarts, like the processes that its files
	// are about.
	run string
	// machine are the arguments that depend on the machine.
	machine func(context.Context) ([]string, error)
}

// standard is the place of the one daemon that a machine has: two would fight
// over bridges and firewall rules.
var standard = place{run: "/run/studio-go-runner/docker", machine: machineArguments}

func (p place) socket() string  { return filepath.Join(p.run, "docker.sock") }
func (p place) pidFile() string { return filepath.Join(p.run, "docker.pid") }
func (p place) log() string     { return filepath.Join(p.run, "dockerd.log") }
func (p place) host() string    { return "unix://" + p.socket() }

// ensure finds the daemon at this place, or starts it.
func (p place) ensure(ctx context.Context, keep bool, progress io.Writer) (stop func() error, err error) {
	release, err := cache.Lock(ctx, filepath.Join(p.run, "lock"), "Docker's daemon", progress)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := os.Setenv("DOCKER_HOST", p.host()); err != nil {
		return nil, err
	}
	if answers(ctx) == nil {
		fmt.Fprintf(progress, "using the Docker daemon that another run started; it ends with that run, unless that had KEEP=1: DOCKER_HOST=%s\n", p.host())
		return func() error { return nil }, nil
	}
	if err := p.awaitLeftover(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	fmt.Fprintf(progress, "starting dockerd (log %s)\n", p.log())
	d, err := p.start(ctx, keep)
	if err != nil {
		return nil, err
	}
	if err := d.await(ctx); err != nil {
		_ = d.stop()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		tail, _ := exec.Command("tail", "--lines=25", p.log()).CombinedOutput()
		return nil, fmt.Errorf("%w; the end of %s:\n%s", err, p.log(), tail)
	}
	fmt.Fprintf(progress, "dockerd answers after %s: DOCKER_HOST=%s\n", time.Since(began).Round(100*time.Millisecond), p.host())
	if keep {
		fmt.Fprintf(progress, "it is kept; end it with: kill $(cat %s)\n", p.pidFile())
		return func() error { return nil }, nil
	}
	return d.stop, nil
}

// awaitLeftover waits for the end of a daemon that no longer answers: the run
// that started it may have been killed a moment ago.
func (p place) awaitLeftover(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for {
		// Numbers are used again for other processes; only a dockerd is meant.
		pid, err := exec.Command("pgrep", "--exact", "--pidfile", p.pidFile(), "dockerd").Output()
		if err != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("a dockerd of an earlier run neither answers nor ends; end it with: kill -KILL %s", pid)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// start starts a daemon. The caller has the lock.
func (p place) start(ctx context.Context, keep bool) (*daemon, error) {
	args, err := p.machine(ctx)
	if err != nil {
		return nil, err
	}
	args = append(args, "--host", p.host(), "--pidfile", p.pidFile(), "--exec-root", filepath.Join(p.run, "exec"),
		"--group", "0") // the socket's; there need not be one called docker
	if err := errors.Join(os.RemoveAll(p.pidFile()), os.RemoveAll(p.socket())); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command("dockerd", args...)
	cmd.Stdout, cmd.Stderr = log, log
	// A session of its own: Ctrl-C in make's terminal is for us, and we stop it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if !keep {
		// TERM, so that it ends its containers, too. The kernel sends it when the thread
		// dies that starts it, which Go ends only for goroutines that locked it.
		cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &daemon{process: cmd.Process, ended: make(chan struct{})}
	go func() {
		d.err = cmd.Wait()
		close(d.ended)
	}()
	return d, nil
}

// machineArguments are the arguments of dockerd for images and containers.
func machineArguments(ctx context.Context) ([]string, error) {
	data, err := dataRoot()
	if err != nil {
		return nil, err
	}
	args := []string{"--data-root", data}
	if may(unix.CAP_SYS_RESOURCE) {
		return args, nil
	}
	wrapper, err := buildRuntime(ctx)
	if err != nil {
		return nil, fmt.Errorf("build the runtime for a machine without CAP_SYS_RESOURCE: %w", err)
	}
	return append(args, "--add-runtime", "studio-go-runner="+wrapper, "--default-runtime", "studio-go-runner"), nil
}

// daemon is a dockerd that this process started.
type daemon struct {
	process *os.Process
	ended   chan struct{} // closed when it has ended, err is set then
	err     error
}

// await waits until the daemon answers.
func (d *daemon) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-d.ended:
			return fmt.Errorf("dockerd ended (%v)", d.err)
		case <-ctx.Done():
			return fmt.Errorf("dockerd does not answer in %s: %w", startTimeout, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stop ends the daemon, and with it its containers.
func (d *daemon) stop() error {
	_ = d.process.Signal(syscall.SIGTERM) // fails if it has ended
	select {
	case <-d.ended:
		return nil
	case <-time.After(stopTimeout):
	}
	_ = d.process.Kill()
	<-d.ended
	return fmt.Errorf("stop dockerd: it did not end in %s and was killed; its containers may be left", stopTimeout)
}
