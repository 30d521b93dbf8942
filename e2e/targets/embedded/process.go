package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// Limits of what is kept of a process.
const (
	keptLines       = 200_000 // in memory; a busy runner logs some 1000 lines a minute
	maxLine         = 1 << 20 // bytes; longer lines are cut into several
	maxLogFile      = 64 << 20
	maxTermination  = 4 << 10 // what Kubernetes keeps of a termination message
	keptStatuses    = 100_000
	outputWaitDelay = 2 * time.Second // for output of processes that outlive the runner
)

// processConfig says how a runner is started.
type processConfig struct {
	name        string
	nodeMap     string
	command     []string
	env         []string
	dir         string
	termination string // file for the termination message
	logFile     string // copy of the output, empty for none
}

// process is a runner that was started.
type process struct {
	processConfig

	cmd      *exec.Cmd
	logs     *stream[string]
	statuses *stream[api.Status]
	serving  chan struct{} // closed once address is known
	done     chan struct{} // closed once exit is known
	wg       sync.WaitGroup

	once    sync.Once // closes serving
	address string
	exit    targets.Exit
}

var _ targets.Runner = (*process)(nil)

// startProcess starts a runner. It runs until it ends by itself or stop is called.
func startProcess(c processConfig) (*process, error) {
	p := &process{
		processConfig: c,
		cmd:           exec.Command(c.command[0], c.command[1:]...),
		logs:          newStream[string](keptLines),
		statuses:      newStream[api.Status](keptStatuses),
		serving:       make(chan struct{}),
		done:          make(chan struct{}),
	}
	output := &lineWriter{each: p.logged}
	if c.logFile != "" {
		file, err := os.Create(c.logFile)
		if err != nil {
			return nil, fmt.Errorf("start runner %s: %w", c.name, err)
		}
		output.copy = &cappedFile{file: file, left: maxLogFile}
	}
	p.cmd.Env, p.cmd.Dir = c.env, c.dir
	p.cmd.Stdout, p.cmd.Stderr = output, output // one pipe, so lines do not mix
	p.cmd.WaitDelay = outputWaitDelay
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(p.cmd.SysProcAttr)
	if err := p.cmd.Start(); err != nil {
		output.close()
		return nil, fmt.Errorf("start runner %s: %w", c.name, err)
	}
	p.wg.Go(func() { p.wait(output) })
	p.wg.Go(p.readStatuses)
	return p, nil
}

// logged takes a line of output.
func (p *process) logged(line string) {
	p.logs.add(line)
	if !strings.Contains(line, `"serving"`) {
		return
	}
	var entry struct{ Msg, Address string }
	if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving" && entry.Address != "" {
		p.once.Do(func() {
			p.address = entry.Address
			close(p.serving)
		})
	}
}

// wait notes the end of the process.
func (p *process) wait(output *lineWriter) {
	_ = p.cmd.Wait() // the state says it all; the rest concerns only its output
	p.exit = targets.Exit{Code: p.cmd.ProcessState.ExitCode(), Time: time.Now()}
	p.exit.Message = readTermination(p.termination)
	output.close()
	close(p.done)
	p.logs.close() // last, so that who has read all logs finds the process ended
}

// readTermination reads what the runner left as its last words.
func readTermination(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return "" // a killed runner leaves none
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxTermination))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// NodeMap is the name of the runner's node map.
func (p *process) NodeMap() string { return p.nodeMap }

// Watch calls each for every status of the process.
func (p *process) Watch(ctx context.Context, each func(api.Status)) error {
	return p.statuses.follow(ctx, each)
}

// Logs calls each for every line that the process writes.
func (p *process) Logs(ctx context.Context, each func(line string)) error {
	return p.logs.follow(ctx, each)
}

// Wait returns when the process has ended.
func (p *process) Wait(ctx context.Context) (targets.Exit, error) {
	select {
	case <-p.done:
		return p.exit, nil
	case <-ctx.Done():
		return targets.Exit{}, fmt.Errorf("wait for the end of runner %s: %w", p.name, context.Cause(ctx))
	}
}

// Signal sends a signal to the process, not to its tasks, as the kubelet does.
func (p *process) Signal(ctx context.Context, sig os.Signal) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("send signal %s to runner %s: %w", sig, p.name, err)
	}
	return nil
}

// ended says whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop waits for the process at most for grace, then kills it. All goroutines
// have ended when it returns.
func (p *process) stop(grace time.Duration) {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		_ = p.cmd.Process.Kill() // it may have ended in this moment
	}
	p.wg.Wait()
}

// terminate asks the process to end.
func (p *process) terminate() error {
	err := p.cmd.Process.Signal(syscall.SIGTERM)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("terminate runner %s: %w", p.name, err)
	}
	return nil
}

// lineWriter cuts what is written to it into lines.
type lineWriter struct {
	each    func(string)
	copy    io.WriteCloser // gets everything, may be nil
	partial []byte
}

// Write takes a part of the output; one goroutine of exec.Cmd calls it.
func (w *lineWriter) Write(data []byte) (int, error) {
	if w.copy != nil {
		_, _ = w.copy.Write(data) // a full disk must not stop the runner
	}
	w.partial = append(w.partial, data...)
	for {
		line, rest, found := bytes.Cut(w.partial, []byte("\n"))
		if !found && len(w.partial) > maxLine {
			line, rest, found = w.partial[:maxLine], w.partial[maxLine:], true
		}
		if !found {
			return len(data), nil
		}
		w.each(string(line))
		w.partial = rest
	}
}

// close passes the last line on if it has no end.
func (w *lineWriter) close() {
	if len(w.partial) > 0 {
		w.each(string(w.partial))
		w.partial = nil
	}
	if w.copy != nil {
		_ = w.copy.Close()
	}
}

// cappedFile takes no more than a number of bytes, and says so at its end.
type cappedFile struct {
	file *os.File
	left int
}

// Write writes what still fits.
func (c *cappedFile) Write(data []byte) (int, error) {
	if c.left <= 0 {
		return len(data), nil
	}
	part := data[:min(len(data), c.left)]
	c.left -= len(part)
	if _, err := c.file.Write(part); err != nil {
		return 0, err
	}
	if c.left <= 0 {
		fmt.Fprintln(c.file, "\n(cut here: the log is too long)")
	}
	return len(data), nil
}

// Close closes the file.
func (c *cappedFile) Close() error { return c.file.Close() }
