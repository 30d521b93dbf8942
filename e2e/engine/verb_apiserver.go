package engine

import (
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

func init() {
	add(scenario.Verb{Name: "apiserver", Doc: "Stops or starts the API server.", Need: scenario.NeedAPIServer}, apiserver.do)
}

type apiserver string

func (apiserver) Words() []string { return []string{"stop", "start"} }

func (a apiserver) do(p *play) error {
	c, err := control[targets.APIServerControl](p)
	if err != nil {
		return err
	}
	if a == "stop" {
		return p.bounded(outageBudget, c.StopAPIServer)
	}
	return p.bounded(outageBudget, c.StartAPIServer)
}
