package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/studioml/studio-go-runner/e2e/targets/evidence"
	"github.com/studioml/studio-go-runner/e2e/targets/namespace"
)

// Limits of what is collected after a failure.
const (
	maxTail         = 4 << 20 // bytes of a log of the control plane, and of the journal
	lastStatuses    = 200     // of each runner
	collectDeadline = 10 * time.Second
)

// Collect writes queue, maps, Events, statuses, journal and logs into the
// artifacts, as far as they can be had; the runners' logs are there already.
func (e *env) Collect(ctx context.Context) error {
	if e.isolation.Artifacts == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, collectDeadline) // the API server may be stopped
	defer cancel()
	problems := []error{e.collectQueue(ctx), e.collectObjects(ctx), e.collectStatuses(), e.copyTail(e.journal())}
	if e.plane != nil {
		for _, name := range e.plane.Logs() {
			problems = append(problems, e.copyTail(name))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("collect artifacts: %w", err)
	}
	return nil
}

func (e *env) evidence() evidence.Dir { return evidence.Dir(e.isolation.Artifacts) }

// copyTail copies the end of a file into the artifacts.
func (e *env) copyTail(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.NewSectionReader(file, max(0, info.Size()-maxTail), maxTail))
	if err != nil {
		return err
	}
	return e.evidence().Save(filepath.Base(path), data)
}

// collectQueue writes queue.json.
func (e *env) collectQueue(ctx context.Context) error {
	contents, err := e.Queue(ctx)
	return e.evidence().SaveJSON("queue.json", contents, err)
}

// collectObjects writes the objects of the namespaces as YAML.
func (e *env) collectObjects(ctx context.Context) error {
	e.mu.Lock()
	elsewhere := e.elsewhere
	e.mu.Unlock()
	return errors.Join(
		namespace.Collect(ctx, e.admin, e.namespace, "", e.evidence().Save),
		namespace.Collect(ctx, e.admin, elsewhere, "elsewhere-", e.evidence().Save))
}

// collectStatuses writes the last statuses of each process, one a line, and how
// it ended.
func (e *env) collectStatuses() error {
	e.mu.Lock()
	processes := e.processes[:len(e.processes):len(e.processes)]
	e.mu.Unlock()
	starts := map[string]int{}
	var problems []error
	for _, p := range processes {
		starts[p.name]++
		var out bytes.Buffer
		encoder := json.NewEncoder(&out)
		statuses := p.statuses.all()
		for _, status := range statuses[max(0, len(statuses)-lastStatuses):] {
			problems = append(problems, encoder.Encode(status))
		}
		if p.ended() {
			problems = append(problems, encoder.Encode(p.exit))
		}
		problems = append(problems, e.evidence().Save(fmt.Sprintf("runner-%s.%d.status.jsonl", p.name, starts[p.name]), out.Bytes()))
	}
	return errors.Join(problems...)
}
