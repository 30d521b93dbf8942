package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/studioml/studio-go-runner/fakegpu"
	"github.com/studioml/studio-go-runner/runner/api"
)

const (
	slots       = 8
	grace       = 3 * time.Second
	killDelay   = time.Second
	longestExit = 40 * time.Second // of which the most is for a busy machine
	restartWait = 300 * time.Millisecond
)

// Runner is started again and again, as a Job would.
type Runner struct {
	arena *Arena
	name  string
	lives int

	mu  sync.Mutex
	now *process // nil between two lives
}

// process is one life.
type process struct {
	cmd     *exec.Cmd
	address chan string // holds it once it is known
	ended   chan struct{}
	reading chan struct{} // who has its one place keeps the log from being read
	log     *os.File      // the end of the pipe that is read

	mu   sync.Mutex
	life Life
}

// keep starts the runner again whenever it ends, until ctx ends. What ended because
// STATE said so stays down until STATE says something else.
func (r *Runner) keep(ctx context.Context) error {
	for ctx.Err() == nil {
		p, err := r.start()
		if err != nil {
			return fmt.Errorf("start runner %s: %w", r.name, err)
		}
		<-p.ended
		r.mu.Lock()
		r.now = nil
		r.mu.Unlock()
		p.mu.Lock()
		life := p.life
		p.mu.Unlock()
		r.arena.mu.Lock()
		r.arena.record.Lives = append(r.arena.record.Lives, life)
		r.arena.mu.Unlock()
		wait(ctx, restartWait)
		for life.Code == api.ExitDrained && r.arena.effective(r.name) == string(api.DrainAndTerminate) && ctx.Err() == nil {
			wait(ctx, restartWait/3)
		}
	}
	return nil
}

// start starts the next life.
func (r *Runner) start() (*process, error) {
	a := r.arena
	r.lives++
	name := fmt.Sprintf("%s.%d", r.name, r.lives)
	termination := a.path("home", name+".termination")
	tmp := a.path("tmp", r.name)
	if err := errors.Join(os.MkdirAll(tmp, 0o777), os.Chmod(tmp, 0o777)); err != nil {
		return nil, err
	}
	p := &process{address: make(chan string, 1), reading: make(chan struct{}, 1), ended: make(chan struct{}), life: Life{Name: name, Runner: r.name, Start: now()}}
	p.cmd = a.asRunner(exec.Command(a.Runner, "serve", "--name="+name, fmt.Sprintf("--slots=%d", slots),
		"--listen=127.0.0.1:0", "--kubeconfig="+a.path("kubeconfig"), "--namespace="+a.env.Namespace(), "--termination-log="+termination,
		"--gpu-lock="+a.path("gpu-locks"), "--settle="+settleWindow.String(), "--gpu-interval=500ms", "--log-format=json", "--log-level=debug",
		"--grace-period="+grace.String(), "--kill-delay="+killDelay.String()))
	p.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + a.path("home"), "HOSTNAME=" + r.name, "TMPDIR=" + tmp, a.queue.variable(),
		"STUDIOML_NVML_LIBRARY=" + a.NVML, fakegpu.EnvState + "=" + a.path("gpus"),
	}
	p.cmd.Dir = a.path("home")
	if err := p.run(a.path("logs", name+".log")); err != nil {
		return nil, err
	}
	go p.follow(termination)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = p
	return p, nil
}

// run starts the process and reads its log, through a small pipe.
func (p *process) run(logFile string) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer write.Close()
	file, err := os.Create(logFile)
	if err != nil {
		return err
	}
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, write.Fd(), syscall.F_SETPIPE_SZ, 4096) // else it is larger
	p.log, p.cmd.Stdout, p.cmd.Stderr = read, write, write
	if err := p.cmd.Start(); err != nil {
		read.Close()
		return err
	}
	go func() {
		defer file.Close()
		defer read.Close()
		lines := bufio.NewReader(read)
		for said := false; ; {
			p.reading <- struct{}{} // waits while somebody else has it
			<-p.reading
			line, err := lines.ReadString('\n')
			_, _ = io.WriteString(file, line)
			if at := strings.Index(line, `"address":"`); at >= 0 && !said && strings.Contains(line, `"serving"`) {
				said = true
				address, _, _ := strings.Cut(line[at+len(`"address":"`):], `"`)
				p.address <- address
			}
			if err != nil {
				return
			}
		}
	}()
	return nil
}

// follow notes all that the process says, and how it ends.
func (p *process) follow(termination string) {
	ctx, cancel := context.WithCancel(context.Background())
	var statuses sync.WaitGroup
	statuses.Go(func() {
		var address string
		select {
		case address = <-p.address:
			p.address <- address
		case <-ctx.Done():
		}
		for ctx.Err() == nil {
			p.listen(ctx, address)
			wait(ctx, restartWait/10) // it has stopped serving, and still runs
		}
	})
	_ = p.cmd.Wait() // the state says it all
	end := now()
	cancel()
	statuses.Wait()
	message, _ := os.ReadFile(termination) // a killed one leaves none
	state := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	p.mu.Lock()
	p.life.End, p.life.Code, p.life.Message = end, p.cmd.ProcessState.ExitCode(), strings.TrimSpace(string(message))
	if state.Signaled() {
		p.life.Killed = state.Signal()
	}
	p.mu.Unlock()
	close(p.ended)
}

// listen reads one stream of statuses to its end.
func (p *process) listen(ctx context.Context, address string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/statusz?watch=true", nil)
	if err != nil {
		return
	}
	response, err := client.Do(request)
	if err != nil {
		return
	}
	defer response.Body.Close()
	for decoder := json.NewDecoder(response.Body); ; {
		said := Said{}
		if decoder.Decode(&said.Status) != nil {
			return
		}
		said.At = now()
		said.Status.GPUs = nil // nobody asks for them, and there are many statuses
		p.mu.Lock()
		p.life.Said = append(p.life.Said, said)
		p.mu.Unlock()
	}
}

// client keeps no connection, of which the runner would have a descriptor.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 0}

// signal sends a signal to the process, and notes it first.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.life.Sent = append(p.life.Sent, Sent{now(), sig})
	_ = p.cmd.Process.Signal(sig) // it may have ended
}

// end waits for the end of a process that was asked to, and kills it if it does not.
func (p *process) end(arena *Arena) {
	timer := time.NewTimer(longestExit)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		arena.left("%s had not ended %v after it was told to", p.life.Name, longestExit)
		p.signal(syscall.SIGKILL)
		<-p.ended
	}
}

// living waits for a life of the runner.
func (r *Runner) living(ctx context.Context) *process {
	for ctx.Err() == nil {
		r.mu.Lock()
		p := r.now
		r.mu.Unlock()
		if p != nil {
			return p
		}
		wait(ctx, restartWait/10)
	}
	return nil
}
