package engine

import "github.com/studioml/studio-go-runner/e2e/scenario"

func init() {
	add(scenario.Verb{Name: "apply", Doc: "Creates or changes maps, by subject."}, apply.do)
}

type apply map[scenario.MapName]scenario.Map

func (a apply) do(p *play) error { return eachOf(a, p.apply) }
