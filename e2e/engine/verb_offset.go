package engine

import (
	"fmt"
	"time"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func init() {
	add(scenario.Verb{Name: "offset", Doc: "Waits until so much time has passed since a mark, so that the next step has its place in time. It fails where that is over already."}, offset.do)
}

type offset struct {
	// Since is the mark.
	Since scenario.Mark `json:"since"`
	// By is how long after it.
	By scenario.Duration `json:"by"`
	// Late is how much later it may be.
	Late scenario.Duration `json:"late,omitempty" jsonschema:"default=500ms"`
}

func (o offset) String() string { return fmt.Sprintf("of %s to %s", o.By, o.Since) }

func (o offset) do(p *play) error {
	left := time.Duration(o.By) - time.Since(p.marks[o.Since].time)
	if late := -left; late > time.Duration(o.Late) {
		return fmt.Errorf("it is over since %s; give the steps before it less to do, or the offset more", late.Round(time.Millisecond))
	}
	return p.pause(max(left, 0))
}
