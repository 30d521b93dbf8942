package docker

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/studioml/studio-go-runner/e2e/airgap/cache"
)

const (
	// startTimeout is how long a daemon may take until it answers. It takes 3 s
	// on two idle cores.
	startTimeout = 90 * time.Second
	// stopTimeout is how long a daemon may take to stop. It gives its containers
	// 10 s before it kills them.
	stopTimeout = 40 * time.Second
	// logLines is how much of its log an error shows.
	logLines = 25
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
func (p place) ensure(ctx context.Context, o Options) (*Docker, error) {
	if err := os.MkdirAll(p.run, 0o700); err != nil {
		return nil, err
	}
	release, err := cache.Lock(ctx, filepath.Join(p.run, "lock"), func() {
		fmt.Fprintln(o.Progress, "another process starts Docker; waiting for it")
	})
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", p.run, err)
	}
	defer release()
	if answers(ctx, p.host()) == nil {
		fmt.Fprintf(o.Progress, "using the Docker daemon that another run started; it ends with that run, unless that had KEEP=1: DOCKER_HOST=%s\n", p.host())
		return &Docker{Host: p.host()}, nil
	}
	if err := p.awaitLeftover(ctx); err != nil {
		return nil, err
	}
	return p.start(ctx, o)
}

// awaitLeftover waits for the end of a daemon that no longer answers: the run
// that started it may have been killed a moment ago.
func (p place) awaitLeftover(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for {
		pid := p.pid()
		if pid == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("a dockerd of an earlier run, process %d, neither answers nor ends; end it with: kill -KILL %d", pid, pid)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// pid returns the process that the pid file names if it is a dockerd, and
// otherwise 0. Numbers are used again for other processes.
func (p place) pid() int {
	data, err := os.ReadFile(p.pidFile())
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || strings.TrimSpace(string(name)) != "dockerd" {
		return 0
	}
	return pid
}

// start starts a daemon and waits until it answers. The caller has the lock.
func (p place) start(ctx context.Context, o Options) (*Docker, error) {
	began := time.Now()
	args, err := p.machine(ctx)
	if err != nil {
		return nil, err
	}
	args = append(args, "--host", p.host(), "--pidfile", p.pidFile(), "--exec-root", filepath.Join(p.run, "exec"),
		"--group", "0") // the socket's; there need not be one called docker
	for _, stale := range []string{p.pidFile(), p.socket()} {
		if err := os.RemoveAll(stale); err != nil {
			return nil, err
		}
	}
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	fmt.Fprintf(o.Progress, "starting dockerd (log %s)\n", p.log())
	cmd := exec.Command("dockerd", args...)
	cmd.Stdout, cmd.Stderr = log, log
	// A session of its own: Ctrl-C in make's terminal is for us, and we stop it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if !o.Keep {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM // so that it ends its containers, too
	}
	d := &daemon{ended: make(chan struct{})}
	if err := d.start(cmd); err != nil {
		return nil, err
	}
	if err := d.await(ctx, p.host()); err != nil {
		_ = d.stop()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w; the end of %s:\n%s", err, p.log(), tail(p.log()))
	}
	result := &Docker{Host: p.host(), daemon: d}
	if o.Keep {
		result.daemon = nil
		fmt.Fprintf(o.Progress, "it is kept; end it with: kill $(cat %s)\n", p.pidFile())
	}
	fmt.Fprintf(o.Progress, "dockerd answers after %s: DOCKER_HOST=%s\n", time.Since(began).Round(100*time.Millisecond), p.host())
	return result, nil
}

// machineArguments are the arguments of dockerd for images and containers.
func machineArguments(ctx context.Context) ([]string, error) {
	data, err := dataRoot()
	if err != nil {
		return nil, err
	}
	args := []string{"--data-root", data}
	if hasCapability("CapBnd", capSysResource) {
		return args, nil
	}
	runtime, err := buildRuntime(ctx)
	if err != nil {
		return nil, fmt.Errorf("build the runtime for a machine without CAP_SYS_RESOURCE: %w", err)
	}
	return append(args, "--add-runtime", "studio-go-runner="+runtime, "--default-runtime", "studio-go-runner"), nil
}

// tail returns the last lines of a log.
func tail(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-logLines):], "\n")
}

// daemon is a dockerd that this process started.
type daemon struct {
	process *os.Process
	ended   chan struct{} // closed when it has ended, err is set then
	err     error
}

// start starts the program. The kernel takes the death of the thread that
// starts it for ours, so that thread does nothing else until the program ends.
func (d *daemon) start(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		d.process = cmd.Process
		started <- err
		if err == nil {
			d.err = cmd.Wait()
			close(d.ended)
		}
	}()
	return <-started
}

// await waits until the daemon answers.
func (d *daemon) await(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := answers(ctx, host)
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
