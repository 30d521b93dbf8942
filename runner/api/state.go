package api

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/agext/levenshtein"
)

// GlobalMapName is the name of the ConfigMap that all runners of a namespace
// obey, and StateKey the one key that is read from it and from the node map
// (the reference document, "Configuration Map support").
const (
	GlobalMapName = "studioml-go-runner"
	StateKey      = "STATE"
)

// State is what an operator can ask of a runner. The zero value means that
// nothing was asked.
type State string

// The states of the reference document. Terminate finishes the outstanding
// work and exits, Suspend finishes it and waits for Running.
const (
	Unset             State = ""
	Running           State = "Running"
	DrainAndTerminate State = "DrainAndTerminate"
	DrainAndSuspend   State = "DrainAndSuspend"
)

// States lists every value that a map may hold.
var States = []State{Running, DrainAndTerminate, DrainAndSuspend}

// ParseState reads the value of the STATE key: white space around it does not
// count, case does. An empty value is Unset. The error for anything else
// quotes the value, shortened and escaped, and names what is allowed.
func ParseState(value string) (State, error) {
	trimmed := strings.TrimSpace(value)
	if trimmed == "" {
		return Unset, nil
	}
	if s := State(trimmed); slices.Contains(States, s) {
		return s, nil
	}
	return Unset, fmt.Errorf("%s is %s; must be Running, DrainAndTerminate or DrainAndSuspend%s",
		StateKey, Excerpt(trimmed), DidYouMean(trimmed, States))
}

// DidYouMean names what value was probably meant to be: the same letters in
// another case or with other separators, or at most two edits away. It is empty
// where nothing is near.
func DidYouMean[T ~string](value string, names []T) string {
	const maxEdits, maxLen = 2, 64 // a longer value is no slip of the pen
	if len(value) > maxLen {
		return ""
	}
	plain := func(s string) string {
		return strings.Map(func(r rune) rune {
			if strings.ContainsRune(" -_.", r) {
				return -1
			}
			return r
		}, strings.ToLower(s))
	}
	best, distance := T(""), maxEdits+1
	for _, s := range names {
		if d := levenshtein.Distance(plain(value), plain(string(s)), nil); d < distance && d < len(s) {
			best, distance = s, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// Excerpt quotes a value that came from outside so that it can be printed:
// control characters are escaped, and no more than 64 bytes and some 100
// characters are shown.
func Excerpt(value string) string {
	const limit, longest = 64, 100
	n := min(len(value), limit)
	quoted := strconv.QuoteToASCII(value[:n])
	for len(quoted) > longest {
		n--
		quoted = strconv.QuoteToASCII(value[:n])
	}
	if n == len(value) {
		return quoted
	}
	return fmt.Sprintf("%s… (%d bytes)", quoted, len(value))
}

// Phase is what a runner reports to be so, as opposed to what was asked of it.
type Phase string

// The phases of a runner. A runner is Suspended or Terminated only when it has
// no task left; until then it is Draining.
const (
	PhaseUnknown    Phase = "Unknown"
	PhaseRunning    Phase = "Running"
	PhaseDraining   Phase = "Draining"
	PhaseSuspended  Phase = "Suspended"
	PhaseTerminated Phase = "Terminated"
)

// Source says where the phase comes from: which map, or what is stronger than both.
type Source string

// The sources, strongest first. Limit is the runner's own, as --max-tasks; Default
// means that neither map has a value.
const (
	SourceSignal  Source = "signal"
	SourceLimit   Source = "limit"
	SourceNode    Source = "node"
	SourceGlobal  Source = "global"
	SourceDefault Source = "default"
)

// Exit codes of a runner (contract R9). They are part of the interface: a Job
// takes 0 as "this runner is done for good" and starts it again otherwise.
const (
	ExitDrained    = 0   // STATE or the runner's own limit said so and everything was finished
	ExitError      = 1   // configuration or start-up error
	ExitTimedOut   = 3   // of a command that waits, not of a runner: it was not so in time
	ExitNever      = 4   // likewise: it cannot come true
	ExitUnfinished = 10  // drain deadline or grace period hit; unfinished work requeued
	ExitForced     = 11  // a second signal; unfinished work requeued
	ExitSignalled  = 143 // drained in time after SIGTERM
)
