package engine

import "github.com/studioml/studio-go-runner/e2e/scenario"

func init() {
	add(scenario.Verb{Name: "delete", Doc: "Deletes maps, by subject, and waits until they are gone."},
		func(maps []scenario.MapName, p *play) error { return p.deleteAll(maps, true) })
	add(scenario.Verb{Name: "deleteNoWait", Doc: "Asks for the deletion of maps, by subject, which a finalizer can hold up."},
		func(maps []scenario.MapName, p *play) error { return p.deleteAll(maps, false) })
}

func (p *play) deleteAll(maps []scenario.MapName, wait bool) error {
	return each(maps, func(subject scenario.MapName) error { return p.delete(subject, wait) })
}
