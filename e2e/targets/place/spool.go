package place

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/studioml/studio-go-runner/runner/api"
)

// The queue is used through the command line of the runner, as people do.

// Submit puts tasks into the queue with one call of runner submit.
func (p *Place) Submit(ctx context.Context, tasks []api.Task) error {
	if p.Layout.Adapter != nil {
		return p.hand(ctx, tasks)
	}
	if len(tasks) == 0 {
		return nil
	}
	var documents bytes.Buffer
	encoder := json.NewEncoder(&documents)
	for _, task := range tasks {
		documents.WriteString("---\n")
		if err := encoder.Encode(task); err != nil {
			return fmt.Errorf("write task %s: %w", task.ID, err)
		}
	}
	_, err := p.Output(ctx, &documents, p.Layout.Runner, "submit", "--spool="+p.Layout.Spool, "-")
	return err
}

// Owner runs a command of the runner on the queue.
func (p *Place) Owner(ctx context.Context, command ...string) error {
	_, err := p.Output(ctx, nil, append([]string{p.Layout.Runner, command[0], "--spool=" + p.Layout.Spool}, command[1:]...)...)
	return err
}

// Queue lists what is in the queue now.
func (p *Place) Queue(ctx context.Context) (api.QueueContents, error) {
	out, err := p.Output(ctx, nil, p.Layout.Runner, "status", "--spool="+p.Layout.Spool, "--output=json")
	if err != nil {
		return api.QueueContents{}, err
	}
	var answer struct {
		Queue *api.QueueContents `json:"queue"`
	}
	if err = json.Unmarshal(out, &answer); err != nil || answer.Queue == nil {
		return api.QueueContents{}, fmt.Errorf("runner status does not say what is in the queue (%v): %s", err, out)
	}
	return *answer.Queue, nil
}
