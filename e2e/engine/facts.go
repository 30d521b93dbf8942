package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

// fact is a row of the table of what conditions can ask for: how a file writes it,
// and how it is read.
type fact struct {
	scenario.Term
	budget time.Duration // for it to come true
	// grows: a number never gets smaller, and others than the subject may still
	// report it after the subject's end.
	grows bool
	// ask is what has to be asked before the record has it: theQueue, or a path of
	// the runner's process.
	ask  string
	read reads
}

// reads returns what is so of a subject, nil if that is not known, and what a person
// should know about it, above all why it is not known.
type reads func(v *view) (have any, about string)

const (
	theQueue = "the queue"
	anybody  = scenario.OfRunners | scenario.OfTasks
)

// said are those of a runner's newest status.
var said = []fact{
	says[string]("phase", "What a runner's newest status says to be so.", func(s *api.Status) any { return word(s.Phase) }).
		ruled(scenario.OneOf(api.PhaseUnknown, api.PhaseRunning, api.PhaseDraining, api.PhaseSuspended, api.PhaseTerminated)).within(exitBudget),
	says[string]("effective", `The state asked of a runner, "none" while it is not known.`, func(s *api.Status) any { return word(s.Effective) }).
		ruled(effectives),
	says[string]("target", "What a runner drains to.", func(s *api.Status) any { return word(s.Target) }).
		ruled(scenario.OneOf(api.DrainAndTerminate, api.DrainAndSuspend)),
	says[string]("source", "Where a runner's phase comes from.", func(s *api.Status) any { return word(s.Source) }).
		ruled(scenario.OneOf(api.SourceSignal, api.SourceLimit, api.SourceNode, api.SourceGlobal, api.SourceDefault)),
	says[string]("shadowed", `The value of the outweighed map, or "none".`, func(s *api.Status) any {
		return word(cmp.Or(s.Shadowed, &api.Shadowed{}).Value)
	}).ruled(effectives),
	says[string]("reason", "A part of the sentence that says what a runner waits for.", func(s *api.Status) any { return text{s.Reason} }),
	says[string]("why", "A part of the reason that the map in force gives.", func(s *api.Status) any { return text{s.Why} }),
	// All of it: 1h is a part of 11h, and of 1h30m.
	says[string]("drainDeadline", "The deadline of a drain that it gives.", func(s *api.Status) any { return word(s.DrainDeadline) }),
	says[string]("problem", "A part of the sentence about one of a runner's maps.", func(s *api.Status) any {
		return texts(mapsOf(s), func(m *api.MapStatus) string { return m.Problem })
	}),
	says[string]("gpuReason", "A part of what a runner says about a GPU that is not healthy, or about all of them.", func(s *api.Status) any {
		return texts(append(s.GPUs, api.GPU{HealthReason: s.GPUProblem}), func(g api.GPU) string { return g.HealthReason })
	}),
	says[int]("running", "How many tasks a runner runs now.", func(s *api.Status) any { return s.Tasks.Running }),
	says[bool]("busy", "Whether it runs any.", func(s *api.Status) any { return s.Tasks.Running > 0 }),
	says[int]("waiting", "How many tasks a runner has fetched and not started.", func(s *api.Status) any { return s.Tasks.Waiting }),
	says[int]("machineFailed", "The attempts that a runner blames on a sick GPU.", func(s *api.Status) any { return s.Tasks.MachineFailed }),
	says[int]("gpus", "How many GPUs a runner has.", func(s *api.Status) any { return len(s.GPUs) }),
	says[int]("gpusBusy", "How many of them tasks hold.", gpusThat(func(g api.GPU) bool { return g.Task != "" })),
	says[int]("gpusSick", "How many GPUs a runner has taken out.", gpusThat(func(g api.GPU) bool { return g.Health == api.Sick })),
	says[int]("gpusRetiring", "How many get no new task.", gpusThat(func(g api.GPU) bool { return g.Health == api.Retiring })),
	says[bool]("readable", "Whether a runner can read its maps: true for all of them, false for none.", func(s *api.Status) any {
		all := mapsOf(s)
		if len(all) == 0 {
			return scenario.None
		}
		if slices.ContainsFunc(all, func(m *api.MapStatus) bool { return m.Readable != all[0].Readable }) {
			return "of some of its maps"
		}
		return all[0].Readable
	}).within(silenceBudget),
}

// factTable is all of them. Most are read from the summary of the record.
var factTable = slices.Concat(said, []fact{
	known[bool]("seen", "Whether a runner has seen the newest version of its maps that the API server has.", scenario.OfRunners,
		reported((*view).seen)).within(stateBudget),
	known[int]("transitions", "The changes of a runner's phase since it started.", scenario.OfRunners,
		reported(func(v *view) (any, string) { return v.runner.Transitions, "" })).within(stateBudget),
	known[int]("exit", "The exit code of a runner's last process, -1 if a signal ended it.", scenario.OfRunners, func(v *view) (any, string) {
		if v.runner.Exit == nil {
			return nil, "it has not exited"
		}
		return v.runner.Exit.Code, cmp.Or(v.runner.Exit.Message, "no message")
	}).within(exitBudget).ruled("minimum=-1,maximum=255"),
	known[int]("processes", "How often a runner was started.", scenario.OfRunners,
		func(v *view) (any, string) { return v.runner.Processes, "" }).growing(),
	known[string]("log", "A part of a line that a runner has logged (since the mark, in never).", scenario.OfRunners,
		func(v *view) (any, string) { return log{v.runner.Log}, "" }),
	known[int]("started", "The attempts that began, of tasks or by a runner, as the tasks themselves tell.", anybody,
		func(v *view) (any, string) { return v.started, "" }).growing(),
	known[int]("finished", "The attempts that came to their end, likewise.", anybody,
		func(v *view) (any, string) { return v.finished, "" }).growing(),
	known[int]("steps", "The steps that the tasks have saved in their checkpoints, each counted once, at least.", scenario.OfTasks,
		func(v *view) (any, string) { return atLeast(v.steps), "" }),

	queued("left", "How many of the tasks are still in the queue, claimed or not.", api.TaskWaiting, api.TaskRunning),
	queued("queued", "How many of the tasks no runner has claimed.", api.TaskWaiting),
	queued("dead", "How many of the tasks were given up.", api.TaskDead),
	queued("cancelled", "How many of the tasks their owner has cancelled.", api.TaskCancelled),

	answers[bool]("live", "Whether a runner's liveness probe succeeds.", "/livez", succeeds),
	answers[bool]("ready", "Whether a runner's readiness probe succeeds.", "/readyz", succeeds),
	answers[scenario.Duration]("heard", "How long ago, at most, a runner heard anything from the API server.", "/statusz", func(e history.Entry) (any, string) {
		var s api.Status
		if err := json.Unmarshal([]byte(e.Answer.Body), &s); err != nil || s.Heard.IsZero() {
			return nil, "it has heard nothing yet"
		}
		return scenario.Duration(e.Time.Sub(s.Heard)), ""
	}),
	answers[scenario.Growth]("fd", "How many more descriptors a runner has open than at a mark.", "/metrics", metric("process_open_fds")),
	answers[scenario.Growth]("goroutines", "How many more goroutines a runner has than at a mark.", "/metrics", metric("go_goroutines")),
})

// effectives is the rule of a state, or of none.
var effectives = scenario.OneOf(append(slices.Clone(api.States), scenario.None)...)

func (f fact) within(budget time.Duration) fact { f.budget = budget; return f }
func (f fact) ruled(rules string) fact          { f.Rules = rules; return f }
func (f fact) growing() fact                    { f.grows = true; return f }

// known is a fact of all that the record adds up to.
func known[T any](name, doc string, of scenario.Subjects, read reads) fact {
	t, rules := reflect.TypeFor[T](), ""
	switch t.Kind() {
	case reflect.Int:
		rules = "minimum=0,maximum=2147483647"
	case reflect.String:
		rules = scenario.Seen
	}
	return fact{Term: scenario.Term{Name: name, Doc: doc, Of: of, Type: t, Rules: rules}, budget: taskBudget, read: read}
}

// says is a fact of a runner's newest status.
func says[T any](name, doc string, read func(*api.Status) any) fact {
	return known[T](name, doc, scenario.OfRunners,
		reported(func(v *view) (any, string) { return read(v.runner.Status), "" })).within(stateBudget)
}

// reported reads what a runner has only once it has reported something.
func reported(read reads) reads {
	return func(v *view) (any, string) {
		if v.runner.Status == nil {
			return nil, "it has not reported anything yet"
		}
		return read(v)
	}
}

// queued is how many tasks are in some states in the queue.
func queued(name, doc string, states ...api.TaskState) fact {
	f := known[int](name, doc, scenario.OfTasks, func(v *view) (any, string) {
		switch {
		case v.summary.QueueTrouble != "":
			return nil, v.summary.QueueTrouble
		case v.summary.Queue == nil:
			return nil, "nobody has looked into the queue"
		}
		return v.summary.Queued(v.group, states...), ""
	})
	f.ask = theQueue
	return f
}

// answers is what a path of the runner's process says, which no record has.
func answers[T any](name, doc, path string, read func(history.Entry) (any, string)) fact {
	f := known[T](name, doc, scenario.OfRunners, func(v *view) (any, string) {
		a, ok := v.runner.Answers[path]
		switch {
		case !ok:
			return nil, "it was not started"
		case a.Answer.Error != "":
			return nil, path + " does not answer: " + a.Answer.Error
		}
		return read(a)
	}).within(stateBudget)
	f.ask = path
	return f
}

func succeeds(e history.Entry) (any, string) {
	return e.Answer.Code == 200, strings.TrimSpace(e.Answer.Body)
}

// metric reads a sample without labels from the text that Prometheus reads.
func metric(name string) func(history.Entry) (any, string) {
	return func(e history.Entry) (any, string) {
		for line := range strings.Lines(e.Answer.Body) {
			if rest, ok := strings.CutPrefix(line, name+" "); ok {
				if value, err := strconv.ParseFloat(strings.TrimSpace(rest), 64); err == nil {
					return value, ""
				}
			}
		}
		return nil, "it has no metric " + name
	}
}

func gpusThat(are func(api.GPU) bool) func(*api.Status) any {
	return func(s *api.Status) any {
		return len(slices.DeleteFunc(slices.Clone(s.GPUs), func(g api.GPU) bool { return !are(g) }))
	}
}

func mapsOf(s *api.Status) []*api.MapStatus {
	return slices.DeleteFunc([]*api.MapStatus{s.Maps.Global, s.Maps.Node}, func(m *api.MapStatus) bool { return m == nil })
}

// word is one of a few, or none.
func word[S ~string](s S) string { return cmp.Or(string(s), scenario.None) }

// text is what files give a part of, line by line.
type text []string

func (t text) contains(part string) bool {
	return slices.ContainsFunc(t, func(line string) bool { return strings.Contains(line, part) })
}

func (t text) String() string {
	said := slices.DeleteFunc(slices.Clone(t), func(line string) bool { return line == "" })
	return word(strings.Join(said, "; "))
}

// texts are a line of each.
func texts[T any](of []T, line func(T) string) (all text) {
	for _, one := range of {
		all = append(all, line(one))
	}
	return all
}

// log is that of a runner, which may be too long to be shown.
type log struct{ text }

func (l log) String() string { return fmt.Sprintf("%d lines", len(l.text)) }

// atLeast is a number that goes by while somebody looks: more is right as well.
type atLeast int

func termsOf(all []fact) (terms []scenario.Term) {
	for _, f := range all {
		terms = append(terms, f.Term)
	}
	return terms
}

// factOf is the row with that name; the format knows no other.
func factOf(name string) fact {
	return factTable[slices.IndexFunc(factTable, func(f fact) bool { return f.Name == name })]
}
