package embedded

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// probeTimeout is the kubelet's default for a probe.
const probeTimeout = time.Second

// httpClient keeps no connection for later, so that nothing is left behind
// when a runner ends.
var httpClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// readStatuses collects every status that the process reports until it ends.
func (p *process) readStatuses() {
	defer p.statuses.close()
	select {
	case <-p.serving:
	case <-p.done:
		return
	}
	// A broken stream is opened again; the pause keeps a runner that has
	// stopped serving, but still runs, from being asked in a busy loop.
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	var newest uint64
	for {
		newest = p.readStream(newest)
		select {
		case <-p.done:
			return
		case <-pause.C:
		}
	}
}

// readStream reads one stream to its end and keeps what is newer than after. It
// returns the sequence number of the newest status.
func (p *process) readStream(after uint64) uint64 {
	// The stream ends with the process, also when somebody else still holds
	// the connection; what was sent until then is read first.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	response, err := p.get(ctx, "/statusz?watch=true")
	if err != nil {
		return after
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return after
	}
	late := make(chan struct{})
	defer close(late)
	p.wg.Go(func() {
		select {
		case <-late:
			return
		case <-p.done:
		}
		timer := time.NewTimer(outputWaitDelay)
		defer timer.Stop()
		select {
		case <-late:
		case <-timer.C:
			cancel()
		}
	})
	decoder := json.NewDecoder(bufio.NewReader(response.Body))
	for {
		var status api.Status
		if decoder.Decode(&status) != nil {
			return after
		}
		if status.Sequence > after || after == 0 {
			p.statuses.add(status)
			after = status.Sequence
		}
	}
}

// Probe says whether the answer to path is 200. As for the kubelet, a process
// that does not serve, not yet or no more, has failed the probe.
func (p *process) Probe(ctx context.Context, path string) (bool, error) {
	select {
	case <-p.serving:
	default:
		return false, nil
	}
	limited, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	response, err := p.get(limited, path)
	if err != nil {
		if ctx.Err() == nil && p.ended() {
			return false, nil
		}
		return false, fmt.Errorf("probe runner %s: %w", p.name, err)
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK, nil
}

// get asks the process; its address is known.
func (p *process) get(ctx context.Context, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+path, nil)
	if err != nil {
		return nil, err
	}
	return httpClient.Do(request)
}
