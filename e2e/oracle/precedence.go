// Package oracle says, independently of the runner, what two maps mean for a
// runner that starts. It is written from the rules R1 to R3 of the contract
// alone and imports nothing of the runner, so that a mistake in the runner's
// code cannot be in the expectation too.
package oracle

import "strings"

// Verdict is what the rules say. All are words of the contract's vocabulary.
type Verdict struct {
	Effective string // Running, DrainAndTerminate or DrainAndSuspend
	Source    string // node, global or default
	Shadowed  string // the value that the node map outweighs, or none
	Phase     string // of the runner once it is idle: Running, Terminated or Suspended
}

// Predict says what a global and a node map mean to a runner that starts with
// them. The maps are written as in scenario files: "absent" is no map,
// "keyless" a map without STATE, anything else the text of STATE.
func Predict(global, node string) Verdict {
	g, n := asksFor(global), asksFor(node)

	v := Verdict{Shadowed: "none"}
	switch {
	case n != nothing: // the node map supersedes the global one (R2)
		v.Effective, v.Source = n, "node"
		if g != nothing && g != n {
			v.Shadowed = g
		}
	case g != nothing:
		v.Effective, v.Source = g, "global"
	default: // nobody asked for anything
		v.Effective, v.Source = "Running", "default"
	}
	v.Phase = settles[v.Effective]
	return v
}

// nothing is what a map asks for that is unset (R1).
const nothing = ""

// settles is where a runner ends up that has no tasks left.
var settles = map[string]string{
	"Running":           "Running",
	"DrainAndTerminate": "Terminated",
	"DrainAndSuspend":   "Suspended",
}

// asksFor reads one map. At the start of a process an invalid value counts as
// unset, because the map never had a valid one (R3).
func asksFor(text string) string {
	if text == "absent" || text == "keyless" {
		return nothing
	}
	switch value := strings.TrimSpace(text); value {
	case "Running", "DrainAndTerminate", "DrainAndSuspend":
		return value
	default:
		return nothing
	}
}
