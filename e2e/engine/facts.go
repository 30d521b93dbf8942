package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

// fact is a row of the table of what conditions can ask for: how a file writes it,
// and how it is read, in one of four ways. What is read is nil if it is not known,
// with what a person should know about that.
type fact struct {
	scenario.Fact
	budget time.Duration // for it to come true
	// grows: a number never gets smaller, and others than the subject may still
	// report it after the subject's end.
	grows bool
	// steps alone change it, so that waiting does not.
	steps bool

	status func(*api.Status) any                  // of a runner's newest status
	queue  func(in map[string]int) int            // of a look into the queue
	answer func(history.Entry) (any, string)      // of what the runner's process answers
	path   string                                 // that it is asked for
	record func(v *view) (have any, about string) // of all that is known
}

// factTable is all of them. It is not to be taken for history.Facts, which are what
// the record adds up to and what most rows read.
var factTable = []fact{
	{Fact: words("phase", "What a runner's newest status says to be so.",
		scenario.Words(api.PhaseUnknown, api.PhaseRunning, api.PhaseDraining, api.PhaseSuspended, api.PhaseTerminated)),
		budget: exitBudget, status: func(s *api.Status) any { return word(s.Phase) }},
	{Fact: words("effective", `The state asked of a runner, "none" while it is not known.`, effectives),
		budget: stateBudget, status: func(s *api.Status) any { return word(s.Effective) }},
	{Fact: words("target", "What a runner drains to.", scenario.Words(api.DrainAndTerminate, api.DrainAndSuspend)),
		budget: stateBudget, status: func(s *api.Status) any { return word(s.Target) }},
	{Fact: words("source", "Where a runner's phase comes from.",
		scenario.Words(api.SourceSignal, api.SourceLimit, api.SourceNode, api.SourceGlobal, api.SourceDefault)),
		budget: stateBudget, status: func(s *api.Status) any { return word(s.Source) }},
	{Fact: words("shadowed", `The value of the outweighed map, or "none".`, effectives),
		budget: stateBudget, status: func(s *api.Status) any {
			if s.Shadowed == nil {
				return scenario.None
			}
			return word(s.Shadowed.Value)
		}},
	{Fact: ofRunners[string]("reason", "A part of the sentence that says what a runner waits for."),
		budget: stateBudget, status: func(s *api.Status) any { return text(s.Reason) }},
	{Fact: ofRunners[string]("problem", "A part of the sentence about one of a runner's maps."),
		budget: stateBudget, status: func(s *api.Status) any {
			return texts(mapsOf(s), func(m *api.MapStatus) string { return m.Problem })
		}},
	{Fact: ofRunners[string]("gpuReason", "A part of what a runner says about a GPU that is not healthy, or about all of them."),
		budget: stateBudget, status: func(s *api.Status) any {
			return texts(append(s.GPUs, api.GPU{HealthReason: s.GPUProblem}), func(g api.GPU) string { return g.HealthReason })
		}},
	{Fact: ofRunners[int]("running", "How many tasks a runner runs now."),
		budget: stateBudget, status: func(s *api.Status) any { return s.Tasks.Running }},
	{Fact: ofRunners[int]("waiting", "How many tasks a runner has fetched and not started."),
		budget: stateBudget, status: func(s *api.Status) any { return s.Tasks.Waiting }},
	{Fact: ofRunners[int]("machineFailed", "The attempts that a runner blames on a sick GPU."),
		budget: stateBudget, status: func(s *api.Status) any { return s.Tasks.MachineFailed }},
	{Fact: ofRunners[int]("gpus", "How many GPUs a runner has."),
		budget: stateBudget, status: func(s *api.Status) any { return len(s.GPUs) }},
	{Fact: ofRunners[int]("gpusBusy", "How many of them tasks hold."),
		budget: stateBudget, status: gpusThat(func(g api.GPU) bool { return g.Task != "" })},
	{Fact: ofRunners[int]("gpusSick", "How many GPUs a runner has taken out."),
		budget: stateBudget, status: gpusThat(func(g api.GPU) bool { return g.Health == api.Sick })},
	{Fact: ofRunners[int]("gpusRetiring", "How many get no new task."),
		budget: stateBudget, status: gpusThat(func(g api.GPU) bool { return g.Health == api.Retiring })},
	{Fact: ofRunners[bool]("readable", "Whether a runner can read its maps: true for all of them, false for none."),
		budget: silenceBudget, status: func(s *api.Status) any {
			readable := make(map[bool]bool)
			for _, m := range mapsOf(s) {
				readable[m.Readable] = true
			}
			if len(readable) != 1 {
				return "of some of its maps"
			}
			return readable[true]
		}},
	{Fact: ofRunners[bool]("seen", "Whether a runner has seen the newest version of its maps that the API server has."),
		budget: stateBudget, record: reported((*view).seen)},
	{Fact: ofRunners[int]("transitions", "The changes of a runner's phase since it started."),
		budget: stateBudget, record: reported(func(v *view) (any, string) { return v.runner.Transitions, "" })},
	{Fact: scenario.Fact{Name: "exit", Doc: "The exit code of a runner's last process, -1 if a signal ended it.",
		Of: scenario.OfRunners, Type: reflect.TypeFor[int](), Rules: "minimum=-1,maximum=255", Lasting: true},
		budget: exitBudget, record: func(v *view) (any, string) {
			if v.runner.Exit == nil {
				return nil, "it has not exited"
			}
			return v.runner.Exit.Code, ""
		}},
	{Fact: ofRunners[int]("processes", "How often a runner was started."),
		budget: taskBudget, steps: true, record: func(v *view) (any, string) { return v.runner.Processes, "" }},
	{Fact: ofRunners[string]("log", "A part of a line that a runner has logged (since the mark, in never)."),
		budget: taskBudget, record: func(v *view) (any, string) { return logged{v.runner}, "" }},
	{Fact: of[int]("started", "The attempts that began, of tasks or by a runner, as the tasks themselves tell.", scenario.OfRunners|scenario.OfTasks),
		budget: taskBudget, grows: true, record: func(v *view) (any, string) { return v.started, "" }},
	{Fact: of[int]("finished", "The attempts that came to their end, likewise.", scenario.OfRunners|scenario.OfTasks),
		budget: taskBudget, grows: true, record: func(v *view) (any, string) { return v.finished, "" }},

	{Fact: of[int]("steps", "The steps that the tasks have saved in their checkpoints, each counted once.", scenario.OfTasks),
		budget: taskBudget, grows: true, record: func(v *view) (any, string) { return v.facts.Steps(v.group), "" }},

	{Fact: of[int]("left", "How many of the tasks are in the queue, claimed or not.", scenario.OfTasks),
		budget: taskBudget, queue: func(in map[string]int) int { return in["ready"] + in["claimed"] }},
	{Fact: of[int]("queued", "How many of the tasks no runner has claimed.", scenario.OfTasks),
		budget: taskBudget, queue: func(in map[string]int) int { return in["ready"] }},
	{Fact: of[int]("dead", "How many of the tasks were given up.", scenario.OfTasks),
		budget: taskBudget, queue: func(in map[string]int) int { return in["dead"] }},
	{Fact: of[int]("cancelled", "How many of the tasks their owner has cancelled.", scenario.OfTasks),
		budget: taskBudget, queue: func(in map[string]int) int { return in["cancelled"] }},

	{Fact: now[bool]("live", "Whether a runner's liveness probe succeeds."), budget: stateBudget, path: "/livez", answer: succeeds},
	{Fact: now[bool]("ready", "Whether a runner's readiness probe succeeds."), budget: stateBudget, path: "/readyz", answer: succeeds},
	{Fact: now[scenario.Duration]("heard", "How long ago, at most, a runner heard anything from the API server."),
		budget: stateBudget, path: "/statusz", answer: func(e history.Entry) (any, string) {
			var s api.Status
			if err := json.Unmarshal([]byte(e.Answer.Body), &s); err != nil || s.Heard.IsZero() {
				return nil, "it has heard nothing yet"
			}
			return scenario.Duration(e.Time.Sub(s.Heard)), ""
		}},
	{Fact: now[scenario.Growth]("fd", "How many more descriptors a runner has open than at a mark."),
		budget: stateBudget, path: "/metrics", answer: metric("process_open_fds")},
	{Fact: now[scenario.Growth]("goroutines", "How many more goroutines a runner has than at a mark."),
		budget: stateBudget, path: "/metrics", answer: metric("go_goroutines")},
}

var effectives = append(scenario.Words(api.States...), scenario.None)

func of[T any](name, doc string, subjects scenario.Subjects) scenario.Fact {
	t, rules := reflect.TypeFor[T](), ""
	switch t.Kind() {
	case reflect.Int:
		rules = "minimum=0,maximum=2147483647"
	case reflect.String:
		rules = scenario.Seen
	}
	return scenario.Fact{Name: name, Doc: doc, Of: subjects, Type: t, Rules: rules, Lasting: true}
}

func ofRunners[T any](name, doc string) scenario.Fact { return of[T](name, doc, scenario.OfRunners) }

func words(name, doc string, words []string) scenario.Fact {
	f := ofRunners[string](name, doc)
	f.Rules = scenario.OneOf(words...)
	return f
}

// now is a fact that no record has.
func now[T any](name, doc string) scenario.Fact {
	f := ofRunners[T](name, doc)
	f.Lasting = false
	return f
}

// read returns what is so of a subject, nil if that is not known, and what a person
// should know about it, above all why it is not known.
func (f *fact) read(v *view) (have any, about string) {
	switch {
	case f.queue != nil && v.facts.QueueTrouble != "":
		return nil, v.facts.QueueTrouble
	case f.queue != nil && v.facts.Queue == nil:
		return nil, "nobody has looked into the queue"
	case f.queue != nil:
		return f.queue(placesIn(v.facts.Queue, v.group)), ""
	case f.answer != nil:
		a, ok := v.runner.Answers[f.path]
		switch {
		case !ok:
			return nil, "it was not started"
		case a.Answer.Error != "":
			return nil, f.path + " does not answer: " + a.Answer.Error
		}
		return f.answer(a)
	case f.status != nil:
		return reported(func(v *view) (any, string) { return f.status(v.runner.Status), "" })(v)
	}
	return f.record(v)
}

// reported reads what a runner has only once it has reported something.
func reported(read func(*view) (any, string)) func(*view) (any, string) {
	return func(v *view) (any, string) {
		if v.runner.Status == nil {
			return nil, "it has not reported anything yet"
		}
		return read(v)
	}
}

// asked says whether it is not in the record before somebody asks for it.
func (f *fact) asked() bool { return f.queue != nil || f.answer != nil }

func succeeds(e history.Entry) (any, string) {
	return e.Answer.Code == 200, strings.TrimSpace(e.Answer.Body)
}

// metric reads a sample without labels from the text that Prometheus reads.
func metric(name string) func(history.Entry) (any, string) {
	return func(e history.Entry) (any, string) {
		for line := range strings.Lines(e.Answer.Body) {
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

func gpusThat(are func(api.GPU) bool) func(*api.Status) any {
	return func(s *api.Status) any {
		n := 0
		for _, g := range s.GPUs {
			if are(g) {
				n++
			}
		}
		return n
	}
}

func mapsOf(s *api.Status) []*api.MapStatus {
	return slices.DeleteFunc([]*api.MapStatus{s.Maps.Global, s.Maps.Node}, func(m *api.MapStatus) bool { return m == nil })
}

// word is one of a few, or none.
func word[S ~string](s S) string { return cmp.Or(string(s), scenario.None) }

// text is what files give a part of.
type text string

func (t text) says(part string) bool { return strings.Contains(string(t), part) }
func (t text) String() string        { return word(t) }

// texts are the texts that some have, one behind the other.
func texts[T any](of []T, said func(T) string) text {
	var all []string
	for _, one := range of {
		if s := said(one); s != "" {
			all = append(all, s)
		}
	}
	return text(strings.Join(all, "; "))
}

// logged is the log of a runner.
type logged struct{ *history.Runner }

func (l logged) says(part string) bool { return l.Logged(part) }
func (l logged) String() string        { return fmt.Sprintf("%d lines", len(l.Log)) }

// placesIn counts the tasks of a group by where they are.
func placesIn(contents *api.QueueContents, group string) map[string]int {
	in := make(map[string]int)
	for id, places := range placesOf(contents) {
		for _, place := range places {
			if history.InGroup(id, group) {
				in[place]++
			}
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
