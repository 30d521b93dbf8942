package engine

import (
	"strings"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func init() {
	add(scenario.Verb{Name: "say", Doc: "Tells whoever looks on what happens next, and why."}, say.do)
}

type say string

func (s say) Check(c *scenario.Checker, at string) {
	if strings.TrimSpace(string(s)) == "" {
		c.Bad(at, "is empty")
	}
}

func (s say) do(p *play) error {
	text := strings.TrimSpace(string(s))
	p.record.Add(history.Entry{Output: "\n# " + strings.ReplaceAll(text, "\n", "\n# ") + "\n"})
	return nil
}
