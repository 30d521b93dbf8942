package report

import (
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/oracle"
	"github.com/studioml/studio-go-runner/runner/api"
)

// Pair is what two maps held at the end of a story, in the words of the scenario
// files, and what a runner made of them.
type Pair struct {
	Global    string `json:"global"`
	Node      string `json:"node"`
	Phase     string `json:"phase"`
	Effective string `json:"effective"`
	Source    string `json:"source"`
	Shadowed  string `json:"shadowed"`
}

// values are what a map may hold, as row 16 of the catalogue pairs them.
var values = []string{"absent", "keyless", "", "invalid", "Running", "DrainAndTerminate", "DrainAndSuspend"}

// pairOf is read from what really happened, and not from a scenario's name.
func pairOf(f *history.Facts, runner string) *Pair {
	r := f.Runners[runner]
	if r == nil || r.Status == nil || r.Status.Maps.Global == nil || r.Status.Maps.Node == nil {
		return nil
	}
	s := r.Status
	holds := func(name string) string {
		m, ok := f.Maps[s.Maps.Namespace+"/"+name]
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
	p := &Pair{Global: holds(s.Maps.Global.Name), Node: holds(s.Maps.Node.Name), Phase: string(s.Phase),
		Effective: string(s.Effective), Source: string(s.Source), Shadowed: "none"}
	if s.Shadowed != nil {
		p.Shadowed = string(s.Shadowed.Value)
	}
	return p
}

// Cell is one pair of values: what the rules say, and what was seen.
type Cell struct {
	Global, Node string
	Want         oracle.Verdict
	Got          *Pair // nil if no runner was seen with these maps
	Right        bool
	Anchor       string // of the scenario
}

// pairRow is the row of the catalogue that plays all pairs.
const pairRow = "row:16"

// Matrix has a line for each value of the global map; nil if no scenario of row 16
// was played.
func (r *Run) Matrix() [][]Cell {
	played := make(map[[2]string]*Spec)
	for i := range r.Specs {
		s := &r.Specs[i]
		if slices.Contains(s.Labels, pairRow) && s.Story != nil && s.Story.Pair != nil {
			played[[2]string{s.Story.Pair.Global, s.Story.Pair.Node}] = s
		}
	}
	if len(played) == 0 {
		return nil
	}
	var lines [][]Cell
	for _, global := range values {
		var line []Cell
		for _, node := range values {
			c := Cell{Global: global, Node: node, Want: oracle.Predict(global, node)}
			if s := played[[2]string{global, node}]; s != nil {
				c.Got, c.Anchor = s.Story.Pair, s.Anchor
				c.Right = *c.Got == Pair{global, node, c.Want.Phase, c.Want.Effective, c.Want.Source, c.Want.Shadowed}
			}
			line = append(line, c)
		}
		lines = append(lines, line)
	}
	return lines
}
