package embedded

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

const (
	maxLine        = 1 << 20         // bytes; longer lines of a log are cut into several
	maxTermination = 4 << 10         // what Kubernetes keeps of a termination message
	probeTimeout   = time.Second     // the kubelet's default for a probe
	lastWords      = 2 * time.Second // for output and connections that outlive the runner
)

// process is a runner that was started.
type process struct {
	name        string
	termination string // file for the termination message
	cmd         *exec.Cmd
	tells       targets.Sink
	log         io.WriteCloser // copies for people
	statuses    io.WriteCloser

	serving chan struct{} // closed once address is known
	address string
	ended   chan struct{} // closed when the process has ended
	all     sync.WaitGroup
}

var _ targets.Runner = (*process)(nil)

// start starts the runner, which tells the sink. It runs until it ends by itself or
// stop is called.
func (p *process) start(tells targets.Sink) error {
	p.tells = tells
	output, input, err := os.Pipe() // one, so that lines do not mix
	if err == nil {
		defer input.Close()
		p.cmd.Stdout, p.cmd.Stderr = input, input
		if err = p.cmd.Start(); err != nil {
			output.Close()
		}
	}
	if err != nil {
		return errors.Join(err, p.log.Close(), p.statuses.Close())
	}
	p.all.Go(func() { p.follow(output) })
	return nil
}

// follow passes on what the process tells, and at last how it ended.
func (p *process) follow(output *os.File) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var words sync.WaitGroup
	words.Go(func() { p.readLog(output) })
	words.Go(func() { p.readStatuses(ctx) })
	_ = p.cmd.Wait() // the state says it all
	exit := targets.Exit{Code: p.cmd.ProcessState.ExitCode(), Message: p.lastMessage(), Time: time.Now()}
	close(p.ended)
	// Somebody else may hold its output or a connection; what it has said is read first.
	late := time.AfterFunc(lastWords, func() {
		cancel()
		_ = output.SetReadDeadline(time.Now())
	})
	words.Wait()
	late.Stop()
	output.Close()
	_ = errors.Join(p.log.Close(), p.statuses.Close())
	p.tells.Exit(exit)
}

// readLog passes lines on until nobody can write any more.
func (p *process) readLog(output io.Reader) {
	lines := bufio.NewReaderSize(io.TeeReader(output, p.log), maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 {
			p.findAddress(line)
			p.tells.Log(string(bytes.TrimSuffix(line, []byte("\n"))))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// findAddress looks for where the runner serves.
func (p *process) findAddress(line []byte) {
	var entry struct{ Msg, Address string }
	if p.address == "" && bytes.Contains(line, []byte(`"serving"`)) && json.Unmarshal(line, &entry) == nil && entry.Msg == "serving" && entry.Address != "" {
		p.address = entry.Address
		close(p.serving)
	}
}

// lastMessage reads what the runner left; a killed one leaves nothing.
func (p *process) lastMessage() string {
	data, _ := os.ReadFile(p.termination)
	return string(bytes.TrimSpace(data[:min(len(data), maxTermination)]))
}

// readStatuses passes on every status that the process reports until it ends.
func (p *process) readStatuses(ctx context.Context) {
	select {
	case <-p.serving:
	case <-p.ended:
		return
	}
	// A broken stream is opened again; the pause keeps a runner that has
	// stopped serving, but still runs, from being asked in a busy loop.
	const pause = 20 * time.Millisecond
	var newest uint64
	_ = wait.PollUntilContextCancel(ctx, pause, true, func(ctx context.Context) (bool, error) {
		newest = p.readStream(ctx, newest)
		return p.hasEnded(), nil
	})
}

// readStream reads one stream to its end and passes on what is newer than after.
// It returns the sequence number of the newest status.
func (p *process) readStream(ctx context.Context, after uint64) uint64 {
	response, err := p.ask(ctx, "/statusz?watch=true")
	if err != nil {
		return after
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return after
	}
	decoder := json.NewDecoder(io.TeeReader(response.Body, p.statuses))
	for {
		var status api.Status
		if err := decoder.Decode(&status); err != nil {
			var bad *json.SyntaxError
			if errors.As(err, &bad) {
				p.tells.Trouble(fmt.Errorf("read statuses of runner %s: %w", p.name, err))
			}
			return after
		}
		if status.Sequence > after || after == 0 {
			p.tells.Status(status)
			after = status.Sequence
		}
	}
}

// httpClient keeps no connection for later, so that nothing is left behind
// when a runner ends.
var httpClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// ask asks the process; its address is known.
func (p *process) ask(ctx context.Context, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+path, nil)
	if err != nil {
		return nil, err
	}
	return httpClient.Do(request)
}

// Get asks as the kubelet does.
func (p *process) Get(ctx context.Context, path string) (code int, body []byte, err error) {
	select {
	case <-p.serving:
	default:
		return 0, nil, fmt.Errorf("get %s of runner %s: it does not serve yet", path, p.name)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	response, err := p.ask(ctx, path)
	if err == nil {
		defer response.Body.Close()
		code = response.StatusCode
		body, err = io.ReadAll(response.Body)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("get %s of runner %s: %w", path, p.name, err)
	}
	return code, body, nil
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

// hasEnded says whether the process has ended.
func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// terminate asks the process to end.
func (p *process) terminate() error {
	err := p.cmd.Process.Signal(syscall.SIGTERM)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("terminate runner %s: %w", p.name, err)
	}
	return nil
}

// stop waits for the process at most for grace, then kills it. Everything that
// it told has been passed on when stop returns.
func (p *process) stop(grace time.Duration) {
	kill := time.AfterFunc(grace, func() { _ = p.cmd.Process.Kill() }) // it may have ended in this moment
	defer kill.Stop()
	p.all.Wait()
}
