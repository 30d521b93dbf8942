package place

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/studioml/studio-go-runner/e2e/program"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// The queue is used through the command line of the runner, as people do: by a
// program of this machine, wherever the runners are.

// Submit puts tasks into the queue with one call of runner submit, or of the adapter.
func (p *Place) Submit(ctx context.Context, tasks []api.Task) error {
	if len(tasks) == 0 {
		return nil
	}
	var documents bytes.Buffer
	encoder := json.NewEncoder(&documents)
	for _, task := range tasks {
		if p.Layout.Adapter == nil {
			documents.WriteString("---\n") // as YAML has it
		}
		if err := encoder.Encode(task); err != nil {
			return fmt.Errorf("write task %s: %w", task.ID, err)
		}
	}
	if p.Layout.Adapter != nil {
		return p.Ground.Run(ctx, documents.Bytes(), nil, p.Layout.Adapter.Submit(p.Layout.Spool, p.namespace)...)
	}
	return p.client(ctx, cmp.Or(p.Layout.Submits, p.Layout.Runner), &documents, nil, "submit", "-")
}

// Owner runs a command of the runner on the queue.
func (p *Place) Owner(ctx context.Context, command ...string) error {
	return p.client(ctx, p.Layout.Runner, nil, nil, command...)
}

// Queue lists what is in the queue now.
func (p *Place) Queue(ctx context.Context) (targets.Contents, error) {
	var out bytes.Buffer
	if err := p.client(ctx, p.Layout.Runner, nil, &out, "status", "--output=json"); err != nil {
		return nil, err
	}
	var answer struct {
		Queue *struct{ Tasks targets.Contents } `json:"queue"`
	}
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil || answer.Queue == nil {
		return nil, fmt.Errorf("runner status does not say what is in the queue (%v): %s", err, out.Bytes())
	}
	return answer.Queue.Tasks, nil
}

// client runs a command of a runner's program on the queue.
func (p *Place) client(ctx context.Context, name string, stdin io.Reader, stdout io.Writer, command ...string) error {
	line := append([]string{name, command[0], p.Layout.Queue}, command[1:]...)
	return program.Run(ctx, []string{"PGPASSWORD=" + p.Layout.Password}, stdin, stdout, line...)
}
