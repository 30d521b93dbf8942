package lifecycle

import (
	"cmp"
	"fmt"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// View is what is known about one ConfigMap.
type View struct {
	// Name of the map; empty when there is none to watch.
	Name string
	// Known is true from the first successful read on. The fields up to
	// ResourceVersion are those of the last successful read.
	Known   bool
	Present bool
	// Value is the text of STATE, empty when it is missing.
	Value string
	// InBinaryData is true when STATE stands in binaryData.
	InBinaryData bool
	// Instead is the key that was probably meant to be STATE, where that is missing.
	Instead string
	// Why and Deadline are the annotations of R15, as they were written.
	Why, Deadline string
	// Gone is when the map was seen to be deleted; zero if it never was there.
	Gone time.Time
	// ResourceVersion is the newest one seen for this map.
	ResourceVersion string

	// Unreadable says why the map cannot be read now, empty if it can.
	Unreadable string
	// Denied is since when the API server has answered "forbidden" without a
	// break; zero if it has not.
	Denied time.Time
}

// Snapshot is both maps at one moment.
type Snapshot struct {
	Namespace string
	Global    View
	Node      View
	// Ending means that the namespace is being deleted, so that an absent map is
	// no order. Only a fresh read knows.
	Ending bool
	// Off means that there is no cluster: the runner just runs.
	Off bool
}

// Memory is what must be remembered of the past: the valid value of each map
// that stays in force while the map holds an invalid one (R3), and whether the
// state was ever known (R4).
type Memory struct {
	Global, Node api.State
	Known        bool
	// GlobalNotes and NodeNotes are the valid annotations of those that have a value.
	GlobalNotes, NodeNotes Notes
	// Doubt is why the last fresh read confirmed no deletion.
	Doubt string
}

// Notes are what the annotations of a map say (R15).
type Notes struct {
	Why      string
	Deadline string // of a drain, as a duration that outranks the flag; empty for none
}

// Resolution is what two maps mean.
type Resolution struct {
	// Effective is empty while it is not known (R4).
	Effective api.State
	Source    api.Source
	Shadowed  *api.Shadowed
	// ResourceVersion is that of the map behind Source.
	ResourceVersion string
	// Notes are those of the map behind Effective.
	Notes
	// GlobalProblem and NodeProblem are set when a map cannot be taken at its word.
	GlobalProblem, NodeProblem *Problem
	// Doubtful asks for a fresh read, without which a deletion does not count.
	Doubtful bool
	// Wake is when time alone will change the resolution; zero for never.
	Wake time.Time
}

// Problem is what is wrong with a map.
type Problem struct {
	Kind ProblemKind
	Text string // a sentence for people
}

// ProblemKind tells the problems apart, for metrics and Events.
type ProblemKind string

// The kinds of problems.
const (
	ProblemInvalid    ProblemKind = "invalid"
	ProblemAnnotation ProblemKind = "annotation"
	ProblemBinary     ProblemKind = "binary"
	ProblemKey        ProblemKind = "key"
	ProblemUnreadable ProblemKind = "unreadable"
)

// Resolve says what the maps mean now, and what is to be remembered for the
// next time. A deletion counts only once the settle window has passed, so that
// a map that is deleted and created again changes once, and a fresh read has
// confirmed it, so that a namespace that goes as a whole starts nothing (R6).
func Resolve(memory Memory, maps Snapshot, now time.Time, settle time.Duration) (Memory, Resolution) {
	if maps.Off {
		return memory, Resolution{Effective: api.Running, Source: api.SourceDefault}
	}
	var r Resolution
	memory.Global, r.GlobalProblem = r.inForce(memory.Global, maps.Global, maps.Ending, memory.Doubt, now, settle)
	memory.Node, r.NodeProblem = r.inForce(memory.Node, maps.Node, maps.Ending, memory.Doubt, now, settle)
	memory.GlobalNotes.read(maps.Global, memory.Global, &r.GlobalProblem)
	memory.NodeNotes.read(maps.Node, memory.Node, &r.NodeProblem)

	if node := maps.Node; !memory.Known && maps.Global.Known {
		// A runner that may read only the global map obeys that one; the refusal must
		// have lasted for the settle window, because a Role that was bound a moment
		// ago takes a moment to be seen.
		memory.Known = node.Name == "" || node.Known || !node.Denied.IsZero() && due(now, node.Denied.Add(settle), &r.Wake)
	}
	if !memory.Known {
		return memory, r
	}
	// R2: the node map wins over the global one, and without any value a runner runs.
	r.Effective, r.Source = api.Running, api.SourceDefault
	if memory.Global != api.Unset {
		r.Effective, r.Source, r.ResourceVersion, r.Notes = memory.Global, api.SourceGlobal, maps.Global.ResourceVersion, memory.GlobalNotes
	}
	if memory.Node != api.Unset {
		if memory.Global != api.Unset && memory.Global != memory.Node {
			r.Shadowed = &api.Shadowed{Source: api.SourceGlobal, Value: memory.Global}
		}
		r.Effective, r.Source, r.ResourceVersion, r.Notes = memory.Node, api.SourceNode, maps.Node.ResourceVersion, memory.NodeNotes
	}
	return memory, r
}

// Confirm notes what a fresh read says about the deletions that wait for it.
func (m *Memory) Confirm(maps Snapshot, f FreshRead, settle time.Duration) {
	m.Doubt = ""
	switch {
	case f.Err != nil:
		m.Doubt = f.Err.Error()
		return
	case f.Maps.Ending:
		m.Doubt = fmt.Sprintf("namespace %q is being deleted", maps.Namespace)
		return
	}
	gone := func(seen, read View) bool {
		return !seen.Present && !seen.Gone.IsZero() && !f.Began.Before(seen.Gone.Add(settle)) && read.Known && !read.Present
	}
	if gone(maps.Global, f.Maps.Global) {
		m.Global = api.Unset
	}
	if gone(maps.Node, f.Maps.Node) {
		m.Node = api.Unset
	}
}

// inForce returns the value of one map that counts now, given the one that
// counted before.
func (r *Resolution) inForce(before api.State, v View, ending bool, doubt string, now time.Time, settle time.Duration) (api.State, *Problem) {
	var problem *Problem
	if v.Unreadable != "" {
		problem = &Problem{ProblemUnreadable, v.Unreadable}
	}
	switch {
	case !v.Known:
		return before, problem
	case !v.Present && before != api.Unset && ending:
		return before, problem
	case !v.Present && before != api.Unset && !v.Gone.IsZero():
		over := due(now, v.Gone.Add(settle), &r.Wake)
		r.Doubtful = r.Doubtful || over
		if over && doubt != "" && problem == nil {
			problem = &Problem{ProblemUnreadable, fmt.Sprintf(
				"ConfigMap %q was deleted, which no fresh read confirms, so %s stays in force: %s", v.Name, before, doubt)}
		}
		return before, problem
	case !v.Present:
		return api.Unset, problem
	}
	value, err := api.ParseState(v.Value)
	if err != nil {
		kept := "the map counts as unset"
		if before != api.Unset {
			kept = fmt.Sprintf("%s stays in force", before)
		}
		return before, &Problem{ProblemInvalid, fmt.Sprintf("ConfigMap %q: %v; %s", v.Name, err, kept)}
	}
	if value == api.Unset && v.InBinaryData {
		return api.Unset, &Problem{ProblemBinary, fmt.Sprintf(
			"ConfigMap %q: %s stands in binaryData and is ignored, move it to data", v.Name, api.StateKey)}
	}
	if v.Instead != "" {
		return api.Unset, &Problem{ProblemKey, fmt.Sprintf(
			"ConfigMap %q has no %s, but a key %s, which is ignored; if it is meant to be %s, give the key that name", v.Name, api.StateKey, api.Excerpt(v.Instead), api.StateKey)}
	}
	return value, problem
}

// read takes over the annotations of a map, for as long as it has a value in force. An
// invalid one changes nothing.
func (n *Notes) read(v View, inForce api.State, problem **Problem) {
	if inForce == api.Unset {
		*n = Notes{}
	} else if v.Known && v.Present {
		why, badWhy := api.ParseReason(v.Why)
		if badWhy == nil {
			n.Why = why
		}
		deadline, badDeadline := api.ParseDeadline(v.Deadline)
		if badDeadline == nil {
			n.Deadline = deadline
		}
		if err := cmp.Or(badWhy, badDeadline); err != nil && *problem == nil {
			*problem = &Problem{ProblemAnnotation, fmt.Sprintf("ConfigMap %q: %v; the one before stays in force, if there was any", v.Name, err)}
		}
	}
}
