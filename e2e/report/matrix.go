package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/oracle"
	"github.com/studioml/studio-go-runner/runner/api"
)

// Pair is what two maps held at the end of a story, in the words of the scenario
// files, and what a runner made of them.
type Pair struct {
	Global string
	Node   string
	oracle.Verdict
}

// values are what a map may hold, as row 16 of the catalogue pairs them.
var values = []string{"absent", "keyless", "", "invalid", "Running", "DrainAndTerminate", "DrainAndSuspend"}

// pairOf is read from what really happened, and not from a scenario's name.
func pairOf(sum *history.Summary, runner string) *Pair {
	r := sum.Runners[runner]
	if r == nil || r.Status == nil || r.Status.Maps.Global == nil || r.Status.Maps.Node == nil {
		return nil
	}
	s := r.Status
	holds := func(name string) string {
		m, ok := sum.Maps[s.Maps.Namespace+"/"+name]
		value, there := m.Data[api.StateKey]
		switch value = strings.TrimSpace(value); {
		case !ok || m.Deleted:
			return "absent"
		case !there:
			return "keyless"
		case !slices.Contains(values, value):
			return "invalid"
		}
		return value
	}
	p := &Pair{holds(s.Maps.Global.Name), holds(s.Maps.Node.Name),
		oracle.Verdict{Effective: string(s.Effective), Source: string(s.Source), Shadowed: "none", Phase: string(s.Phase)}}
	if s.Shadowed != nil {
		p.Shadowed = string(s.Shadowed.Value)
	}
	return p
}

// Matrix has a line for each value of the global map.
type Matrix [][]Cell

// Cell is one pair of values: what the rules say, and what was seen.
type Cell struct {
	Global, Node string
	Want         oracle.Verdict
	Got          *Pair  // nil if no runner was seen with these maps
	Anchor       string // of the scenario
}

// Right says whether what was seen is what the rules say.
func (c Cell) Right() bool { return c.Got != nil && c.Got.Verdict == c.Want }

// Sum says how many pairs were seen.
func (m Matrix) Sum() string {
	right, played, all := 0, 0, 0
	for _, c := range slices.Concat(m...) {
		all++
		if c.Got != nil {
			played++
		}
		if c.Right() {
			right++
		}
	}
	return fmt.Sprintf("%d of %d pairs were played, %d as expected", played, all, right)
}

// pairRow is the row of the catalogue that plays all pairs.
const pairRow = "row:16"

// Matrix is nil if no scenario of row 16 was played.
func (r *Run) Matrix() (m Matrix) {
	played := make(map[[2]string]Spec)
	for _, s := range r.Specs {
		if slices.Contains(s.Labels, pairRow) && s.Story != nil && s.Story.Pair != nil {
			played[[2]string{s.Story.Pair.Global, s.Story.Pair.Node}] = s
		}
	}
	if len(played) == 0 {
		return nil
	}
	for _, global := range values {
		var line []Cell
		for _, node := range values {
			c := Cell{Global: global, Node: node, Want: oracle.Predict(global, node)}
			if s, ok := played[[2]string{global, node}]; ok {
				c.Got, c.Anchor = s.Story.Pair, s.Anchor
			}
			line = append(line, c)
		}
		m = append(m, line)
	}
	return m
}
