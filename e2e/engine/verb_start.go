package engine

import "github.com/studioml/studio-go-runner/e2e/scenario"

func init() {
	add(scenario.Verb{Name: "start", Doc: "Starts delayed runners, and those that ended, under their old name."}, start.do)
}

type start []scenario.RunnerName

// Starts are the runners that are started, for the format's check.
func (s start) Starts() []scenario.RunnerName { return s }

func (s start) do(p *play) error { return each(s, p.start) }
