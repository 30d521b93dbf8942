package engine

import (
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

func init() {
	add(scenario.Verb{Name: "network", Need: scenario.NeedNetwork,
		Doc: "Changes what lies between the runners and the API server: restore, cut, drop, how long a connection lives, or what answers in its place."}, setNetwork)
}

func setNetwork(n scenario.Network, p *play) error {
	c, err := control[targets.NetworkControl](p)
	if err != nil {
		return err
	}
	return c.SetNetwork(n)
}
