package engine

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

func init() {
	add(scenario.Verb{Name: "removeKey", Doc: "Takes STATE out of maps and leaves the rest, by subject."}, removeKey.do)
}

type removeKey []scenario.MapName

func (r removeKey) do(p *play) error {
	return each(r, func(subject scenario.MapName) error {
		return p.change(subject, func(m *corev1.ConfigMap) { delete(m.Data, api.StateKey) })
	})
}
