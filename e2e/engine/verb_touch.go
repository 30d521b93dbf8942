package engine

import (
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func init() {
	add(scenario.Verb{Name: "touch", Doc: "Changes a label of maps and nothing else, by subject."}, touch.do)
}

type touch []scenario.MapName

func (t touch) do(p *play) error {
	return each(t, func(subject scenario.MapName) error {
		return p.change(subject, func(m *corev1.ConfigMap) {
			if m.Labels == nil {
				m.Labels = make(map[string]string)
			}
			m.Labels["touched"] = strconv.FormatInt(time.Now().UnixNano(), 10)
		})
	})
}
