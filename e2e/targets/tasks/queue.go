package tasks

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Documents is what runner submit reads on its standard input.
func Documents(tasks []api.Task) ([]byte, error) {
	var documents bytes.Buffer
	for i := range tasks {
		if i > 0 {
			documents.WriteString("---\n")
		}
		document, err := json.Marshal(&tasks[i])
		if err != nil {
			return nil, fmt.Errorf("write task %s: %w", tasks[i].ID, err)
		}
		documents.Write(document)
		documents.WriteString("\n")
	}
	return documents.Bytes(), nil
}

// ParseContents reads what runner status --output=json says of a queue.
func ParseContents(output []byte) (api.QueueContents, error) {
	var answer struct {
		Queue *api.QueueContents `json:"queue"`
	}
	if err := json.Unmarshal(output, &answer); err != nil {
		return api.QueueContents{}, fmt.Errorf("read output of runner status: %w\n%s", err, output)
	}
	if answer.Queue == nil {
		return api.QueueContents{}, fmt.Errorf("output of runner status has no queue: %s", output)
	}
	return *answer.Queue, nil
}
