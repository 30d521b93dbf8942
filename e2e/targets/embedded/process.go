package embedded

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/studioml/studio-go-runner/e2e/program"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

const (
	maxLine        = 1 << 20         // bytes; longer ones are cut into several
	maxTermination = 4 << 10         // bytes that Kubernetes keeps of a termination message
	lastWords      = 2 * time.Second // for what is printed by what outlives the runner
)

// process is a runner that was started.
type process struct {
	*program.Program
	name    string
	address string // where it serves
	tells   targets.Sink
	all     sync.WaitGroup
}

var _ targets.Runner = (*process)(nil)

// run starts the runner, which tells the sink until it has ended. What it prints goes
// into a log for people, too.
func (p *process) run(cmd *exec.Cmd, log io.WriteCloser, termination string) (err error) {
	output, printed := io.Pipe()
	cmd.Stdout = io.MultiWriter(log, printed)
	cmd.Stderr, cmd.WaitDelay = cmd.Stdout, lastWords // one pipe, so that lines do not mix
	if p.Program, err = program.Start(cmd); err != nil {
		return errors.Join(err, log.Close())
	}
	var words sync.WaitGroup
	words.Go(func() { p.readLog(output) })
	p.all.Go(func() {
		p.readStatuses() // until it has ended
		printed.Close()
		words.Wait()
		log.Close()
		message, _ := os.ReadFile(termination) // a killed one leaves none
		message = bytes.TrimSpace(message[:min(len(message), maxTermination)])
		p.tells.Exit(targets.Exit{Code: p.ProcessState.ExitCode(), Message: string(message), Time: time.Now()})
	})
	return nil
}

// readLog passes on what the process prints, to the end of that, by lines.
func (p *process) readLog(output io.Reader) {
	for lines := bufio.NewReaderSize(output, maxLine); ; {
		line, _, err := lines.ReadLine()
		if err != nil {
			return
		}
		p.tells.Log(string(line))
	}
}

// readStatuses passes on every status that the process reports until it ends. A broken
// stream is opened again; the pause keeps a runner that does not serve yet, or any
// more, from being asked in a busy loop.
func (p *process) readStatuses() {
	const pause = 20 * time.Millisecond
	for newest := uint64(0); !p.HasEnded(); {
		var err error
		if newest, err = p.readStream(newest); err != nil {
			p.tells.Trouble(fmt.Errorf("runner %s: %w", p.name, err))
			<-p.Ended // it would say the same again
			return
		}
		select {
		case <-p.Ended:
		case <-time.After(pause):
		}
	}
}

// readStream reads one stream to its end, as place.Statuses.
func (p *process) readStream(after uint64) (newest uint64, _ error) {
	response, err := watcher.Get("http://" + p.address + "/statusz?watch=true")
	if err != nil {
		return after, nil
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return after, nil
	}
	return place.Statuses(response.Body, after, p.tells.Status)
}

// The clients keep no connection for later, so that nothing is left behind when a runner
// ends. The timeout is the kubelet's default for a probe.
var (
	watcher = http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	prober  = http.Client{Transport: watcher.Transport, Timeout: time.Second}
)

// Get asks as the kubelet does.
func (p *process) Get(_ context.Context, path string) (code int, body []byte, err error) {
	response, err := prober.Get("http://" + p.address + path)
	if err == nil {
		defer response.Body.Close()
		code = response.StatusCode
		body, err = io.ReadAll(response.Body)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("runner %s: %w", p.name, err)
	}
	return code, body, nil
}

// Signal sends a signal to the process, not to its tasks, as the kubelet does.
func (p *process) Signal(_ context.Context, sig os.Signal) error {
	if err := p.Process.Signal(sig); err != nil {
		return fmt.Errorf("send signal %s to runner %s: %w", sig, p.name, err)
	}
	return nil
}
