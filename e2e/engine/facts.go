package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

// fact is a row of the table of what conditions can ask for: how a file writes
// it, where it comes from, and how it is read.
type fact struct {
	scenario.Fact
	from   origin
	budget time.Duration // for it to come true
	// grows: a number never gets smaller, and others than the subject may still
	// report it after the subject's end.
	grows bool
	// path of the process that is asked, if it is from a probe.
	path string
	// steps alone change it, so that waiting does not.
	steps bool
	// read returns what is so, nil if that is not known, and what a person should
	// know about it, above all why it is not known.
	read func(v *view) (have any, about string)
}

// origin is where a fact comes from.
type origin int

const (
	fromRecord origin = iota
	fromStatus        // a runner's own status, in the record
	fromQueue         // a look into the queue
	fromProbe         // an answer of the runner's process
)

// factTable is all of them. It is not to be taken for history.Facts, which are what
// the record adds up to and what most rows read.
var factTable = []fact{
	word("phase", "What a runner's newest status says to be so.", exitBudget,
		scenario.Words(api.PhaseUnknown, api.PhaseRunning, api.PhaseDraining, api.PhaseSuspended, api.PhaseTerminated),
		func(s *api.Status) string { return string(s.Phase) }),
	word("effective", `The state asked of a runner, "none" while it is not known.`, stateBudget, effectives,
		func(s *api.Status) string { return string(s.Effective) }),
	word("target", "What a runner drains to.", stateBudget, scenario.Words(api.DrainAndTerminate, api.DrainAndSuspend),
		func(s *api.Status) string { return string(s.Target) }),
	word("source", "Where a runner's phase comes from.", stateBudget,
		scenario.Words(api.SourceSignal, api.SourceLimit, api.SourceNode, api.SourceGlobal, api.SourceDefault),
		func(s *api.Status) string { return string(s.Source) }),
	word("shadowed", `The value of the outweighed map, or "none".`, stateBudget, effectives, func(s *api.Status) string {
		if s.Shadowed == nil {
			return ""
		}
		return string(s.Shadowed.Value)
	}),
	part("reason", "A part of the sentence that says what a runner waits for.", func(s *api.Status) string { return s.Reason }),
	part("problem", "A part of the sentence about one of a runner's maps.", func(s *api.Status) string {
		var all []string
		for _, m := range mapsOf(s) {
			if m.Problem != "" {
				all = append(all, m.Problem)
			}
		}
		return strings.Join(all, "; ")
	}),
	part("gpuReason", "A part of what a runner says about a GPU that is not healthy, or about all of them.", func(s *api.Status) string {
		all := []string{s.GPUProblem}
		for _, g := range s.GPUs {
			all = append(all, g.HealthReason)
		}
		return strings.Join(all, "; ")
	}),
	count("running", "How many tasks a runner runs now.", func(s *api.Status) int { return s.Tasks.Running }),
	count("waiting", "How many tasks a runner has fetched and not started.", func(s *api.Status) int { return s.Tasks.Waiting }),
	count("machineFailed", "The attempts that a runner blames on a sick GPU.", func(s *api.Status) int { return s.Tasks.MachineFailed }),
	count("gpus", "How many GPUs a runner has.", func(s *api.Status) int { return len(s.GPUs) }),
	count("gpusBusy", "How many of them tasks hold.", gpusThat(func(g api.GPU) bool { return g.Task != "" })),
	count("gpusSick", "How many GPUs a runner has taken out.", gpusThat(func(g api.GPU) bool { return g.Health == api.Sick })),
	count("gpusRetiring", "How many get no new task.", gpusThat(func(g api.GPU) bool { return g.Health == api.Retiring })),
	{Fact: of[bool]("readable", "Whether a runner can read its maps: true for all of them, false for none.", scenario.OfRunners), from: fromStatus,
		budget: silenceBudget, read: status(func(_ *view, s *api.Status) (any, string) {
			readable := make(map[bool]bool)
			for _, m := range mapsOf(s) {
				readable[m.Readable] = true
			}
			if len(readable) != 1 {
				return nil, "it can read some of its maps"
			}
			return readable[true], ""
		})},
	{Fact: of[bool]("seen", "Whether a runner has seen the newest version of its maps that the API server has.", scenario.OfRunners), from: fromStatus,
		budget: stateBudget, read: status(func(v *view, s *api.Status) (any, string) {
			unseen := v.play.unseen(v.subject, v.facts, s)
			return unseen == "", unseen
		})},
	{Fact: of[int]("transitions", "The changes of a runner's phase since it started.", scenario.OfRunners), from: fromStatus,
		budget: stateBudget, read: status(func(v *view, _ *api.Status) (any, string) { return v.runner.Transitions, "" })},

	{Fact: bounded("exit", "The exit code of a runner's last process, -1 if a signal ended it.", -1, 255), budget: exitBudget,
		read: func(v *view) (any, string) {
			if v.runner.Exit == nil {
				return nil, "it has not exited"
			}
			return v.runner.Exit.Code, ""
		}},
	{Fact: of[int]("processes", "How often a runner was started.", scenario.OfRunners), budget: taskBudget, steps: true,
		read: func(v *view) (any, string) { return v.runner.Processes, "" }},
	{Fact: of[string]("log", "A part of a line that a runner has logged (since the mark, in never).", scenario.OfRunners), budget: taskBudget,
		read: func(v *view) (any, string) { return logged{v.runner}, "" }},
	{Fact: of[int]("started", "The attempts that began, of tasks or by a runner, as the tasks themselves tell.", scenario.OfRunners|scenario.OfTasks),
		budget: taskBudget, grows: true, read: func(v *view) (any, string) { return v.started, "" }},
	{Fact: of[int]("finished", "The attempts that came to their end, likewise.", scenario.OfRunners|scenario.OfTasks),
		budget: taskBudget, grows: true, read: func(v *view) (any, string) { return v.finished, "" }},

	{Fact: of[int]("steps", "The steps that the tasks have saved in their checkpoints, each counted once.", scenario.OfTasks),
		budget: taskBudget, grows: true, read: func(v *view) (any, string) { return v.facts.Steps(v.group), "" }},

	inQueue("left", "How many of the tasks are in the queue, claimed or not.", func(in places) int { return in.ready + in.claimed }),
	inQueue("queued", "How many of the tasks no runner has claimed.", func(in places) int { return in.ready }),
	inQueue("dead", "How many of the tasks were given up.", func(in places) int { return in.dead }),
	inQueue("cancelled", "How many of the tasks their owner has cancelled.", func(in places) int { return in.cancelled }),

	probe[bool]("live", "Whether a runner's liveness probe succeeds.", "/livez", succeeds),
	probe[bool]("ready", "Whether a runner's readiness probe succeeds.", "/readyz", succeeds),
	probe[scenario.Duration]("heard", "How long ago, at most, a runner heard anything from the API server.", statusPath, func(a answer) (any, string) {
		var s api.Status
		if err := json.Unmarshal(a.body, &s); err != nil || s.Heard.IsZero() {
			return nil, "it has heard nothing yet"
		}
		return scenario.Duration(a.time.Sub(s.Heard)), ""
	}),
	probe[scenario.Growth]("fd", "How many more descriptors a runner has open than at a mark.", metricsPath, metric("process_open_fds")),
	probe[scenario.Growth]("goroutines", "How many more goroutines a runner has than at a mark.", metricsPath, metric("go_goroutines")),
}

var effectives = append(scenario.Words(api.States...), scenario.None)

// The paths that facts are read from.
const (
	statusPath  = "/statusz"
	metricsPath = "/metrics"
)

func of[T any](name, doc string, subjects scenario.Subjects) scenario.Fact {
	return scenario.Fact{Name: name, Doc: doc, Of: subjects, Type: reflect.TypeFor[T](), Lasting: true}
}

func bounded(name, doc string, low, high int) scenario.Fact {
	f := of[int](name, doc, scenario.OfRunners)
	f.Low, f.High = low, high
	return f
}

// status reads something of a runner's newest status.
func status(read func(*view, *api.Status) (any, string)) func(*view) (any, string) {
	return func(v *view) (any, string) {
		if v.runner.Status == nil {
			return nil, "it has not reported anything yet"
		}
		return read(v, v.runner.Status)
	}
}

func ofStatus[T any](name, doc string, budget time.Duration, read func(*api.Status) any) fact {
	return fact{Fact: of[T](name, doc, scenario.OfRunners), from: fromStatus, budget: budget,
		read: status(func(_ *view, s *api.Status) (any, string) { return read(s), "" })}
}

func word(name, doc string, budget time.Duration, words []string, read func(*api.Status) string) fact {
	f := ofStatus[string](name, doc, budget, func(s *api.Status) any { return cmp.Or(read(s), scenario.None) })
	f.Words = words
	return f
}

func part(name, doc string, read func(*api.Status) string) fact {
	return ofStatus[string](name, doc, stateBudget, func(s *api.Status) any { return text(read(s)) })
}

func count(name, doc string, read func(*api.Status) int) fact {
	return ofStatus[int](name, doc, stateBudget, func(s *api.Status) any { return read(s) })
}

func inQueue(name, doc string, read func(places) int) fact {
	return fact{Fact: of[int](name, doc, scenario.OfTasks), from: fromQueue, budget: taskBudget, read: func(v *view) (any, string) {
		if v.look.queue == nil {
			return nil, cmp.Or(v.look.queueTrouble, "nobody has looked into the queue")
		}
		return read(placesIn(v.look.queue, v.group)), ""
	}}
}

func probe[T any](name, doc, path string, read func(answer) (any, string)) fact {
	f := of[T](name, doc, scenario.OfRunners)
	f.Lasting = false
	return fact{Fact: f, from: fromProbe, path: path, budget: stateBudget, read: func(v *view) (any, string) {
		a, ok := v.look.answers[v.subject+path]
		switch {
		case !ok:
			return nil, "it was not started"
		case a.err != nil:
			return nil, fmt.Sprintf("%s does not answer: %v", path, a.err)
		}
		return read(a)
	}}
}

func succeeds(a answer) (any, string) { return a.code == 200, strings.TrimSpace(string(a.body)) }

// metric reads a sample without labels from the text that Prometheus reads.
func metric(name string) func(answer) (any, string) {
	return func(a answer) (any, string) {
		for line := range strings.Lines(string(a.body)) {
			var value float64
			if rest, ok := strings.CutPrefix(line, name+" "); ok {
				if _, err := fmt.Sscan(rest, &value); err == nil {
					return value, ""
				}
			}
		}
		return nil, "it has no metric " + name
	}
}

func gpusThat(are func(api.GPU) bool) func(*api.Status) int {
	return func(s *api.Status) (n int) {
		for _, g := range s.GPUs {
			if are(g) {
				n++
			}
		}
		return n
	}
}

func mapsOf(s *api.Status) []*api.MapStatus {
	var all []*api.MapStatus
	for _, m := range []*api.MapStatus{s.Maps.Global, s.Maps.Node} {
		if m != nil {
			all = append(all, m)
		}
	}
	return all
}

// text is what files give a part of.
type text string

func (t text) says(part string) bool { return strings.Contains(string(t), part) }
func (t text) String() string        { return cmp.Or(string(t), scenario.None) }

// logged is the log of a runner.
type logged struct{ *history.Runner }

func (l logged) says(part string) bool { return l.Logged(part) }
func (l logged) String() string        { return fmt.Sprintf("%d lines", len(l.Log)) }

// places is where tasks are.
type places struct{ ready, claimed, dead, cancelled int }

// placesIn counts the tasks of a group.
func placesIn(queue *api.QueueContents, group string) (in places) {
	count := func(tasks []api.QueuedTask) (n int) {
		for _, t := range tasks {
			if history.InGroup(t.ID, group) {
				n++
			}
		}
		return n
	}
	in.ready, in.claimed = count(queue.Ready), count(queue.Claimed)
	for _, d := range queue.Dead {
		if d.Task != nil && history.InGroup(d.Task.ID, group) {
			in.dead++
		}
	}
	for _, id := range queue.Cancelled {
		if history.InGroup(id, group) {
			in.cancelled++
		}
	}
	return in
}

func formatOf(all []fact) []scenario.Fact {
	var formats []scenario.Fact
	for _, f := range all {
		formats = append(formats, f.Fact)
	}
	return formats
}

// factOf is the row with that name; the format knows no other.
func factOf(name string) *fact {
	for i := range factTable {
		if factTable[i].Name == name {
			return &factTable[i]
		}
	}
	panic("engine: no fact is called " + name)
}
