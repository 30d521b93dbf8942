package engine

import (
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

func init() {
	add(scenario.Verb{Name: "queue", Doc: "Hides the queue from the runners, or restores it.", Need: scenario.NeedQueueOutage}, queue.do)
}

type queue string

func (queue) Words() []string { return []string{"hide", "restore"} }

func (q queue) do(p *play) error {
	c, err := control[targets.QueueControl](p)
	if err != nil {
		return err
	}
	if q == "hide" {
		return c.HideQueue()
	}
	return c.RestoreQueue()
}
