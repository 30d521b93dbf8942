package engine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/mapwatch"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

// view is what there is to know of a runner, or of tasks, at one moment.
type view struct {
	play    *play
	summary *history.Summary
	name    string          // of the runner
	runner  *history.Runner // nil for tasks
	group   string          // of tasks; empty for all of them
	// started and finished count attempts, and steps what tasks have saved of their work.
	started, finished, steps int
}

// views returns what is known of a subject: a view of each of its runners, or one
// of tasks.
func (p *play) views(subject string, summary *history.Summary) (all []*view) {
	if kind, group, _ := strings.Cut(subject, "/"); kind == scenario.Tasks {
		v := &view{play: p, summary: summary, group: group}
		v.started, v.finished, v.steps = summary.Counts(group)
		return []*view{v}
	}
	names := strings.Split(subject, "+")
	if subject == scenario.Runners {
		names = slices.Sorted(maps.Keys(p.scenario.Runners))
	}
	for _, name := range names {
		r := summary.Runner(name)
		all = append(all, &view{play: p, summary: summary, name: name, runner: r, started: r.Started, finished: r.Finished})
	}
	return all
}

// verdict is how facts compare with conditions.
type verdict struct {
	wrong   []string // what is not as wanted, a sentence each
	unknown bool     // something of that is not known
	// hopeless says why waiting cannot help, if it cannot.
	hopeless string
}

func (v verdict) ok() bool { return len(v.wrong) == 0 }

// judge compares what is known with conditions: with all of them, or only with
// those on facts that need no asking. What is asked for and not known is wrong.
func (p *play) judge(summary *history.Summary, that scenario.Conditions, all bool) (so verdict) {
	for _, subject := range slices.Sorted(maps.Keys(that)) {
		views := p.views(subject, summary)
		for _, name := range slices.Sorted(maps.Keys(that[subject])) {
			f, want := factOf(name), that[subject][name]
			if f.ask != "" && !all {
				continue
			}
			have, about := readFact(f, views)
			wrong := ""
			if have == nil {
				wrong = fmt.Sprintf("%s is not known: %s", name, about)
				so.unknown = so.unknown || name != "exit" // one that lives shows that it has not exited
			} else if wrong = differ(f, views[0], have, want); wrong != "" && about != "" {
				wrong += " (" + about + ")"
			}
			if wrong == "" {
				continue
			}
			if hopeless := f.hopeless(views, have, want); hopeless != "" {
				so.hopeless = cmp.Or(so.hopeless, subject+": "+hopeless)
			}
			if len(that) > 1 {
				wrong = subject + ": " + wrong
			}
			so.wrong = append(so.wrong, wrong)
		}
	}
	return so
}

// readFact reads a fact; numbers of several runners are added up.
func readFact(f fact, views []*view) (have any, about string) {
	if len(views) == 1 {
		return f.read(views[0])
	}
	all := 0
	for _, v := range views {
		one, about := f.read(v)
		n, ok := one.(int)
		if !ok {
			return nil, v.name + ": " + about
		}
		all += n
	}
	return all, ""
}

// hopeless says why a fact that is wrong will not become right, if so. The end of
// one runner is not the end of all.
func (f fact) hopeless(views []*view, have, want any) string {
	n, _ := have.(int)
	most, isNumber := want.(int)
	switch v := views[0]; {
	case f.grows && isNumber && n > most:
		return f.Name + " never gets smaller"
	case !f.grows && len(views) == 1 && v.runner != nil && v.runner.Exit != nil:
		return fmt.Sprintf("it has exited with %d (%s), so this will not come any more",
			v.runner.Exit.Code, cmp.Or(v.runner.Exit.Message, "no message"))
	}
	return ""
}

// differ says how what is so differs from what is wanted.
func differ(f fact, v *view, have, want any) string {
	ok, text := have == want, fmt.Sprintf("%s is %v, want %v", f.Name, have, want)
	switch want := want.(type) {
	case scenario.Duration:
		ok, text = have.(scenario.Duration) <= want, fmt.Sprintf("%s is %s ago, want at most %s", f.Name, have, want)
	case scenario.Growth:
		then := v.play.then[want.Since]
		before, about := f.read(&view{summary: then, runner: then.Runner(v.name)})
		if then.Runner(v.name).Processes != v.runner.Processes {
			before, about = nil, "it is another process by now"
		}
		if before == nil {
			return fmt.Sprintf("%s was not known at %s: %s", f.Name, want.Since, about)
		}
		more := have.(float64) - before.(float64)
		ok = more <= float64(want.Most)
		text = fmt.Sprintf("%s is %v, which is %v more than at %s, want at most %d", f.Name, have, more, want.Since, want.Most)
	case int:
		if least, is := have.(atLeast); is {
			ok, text = int(least) >= want, fmt.Sprintf("%s is %d, want at least %d", f.Name, least, want)
		}
	case string:
		if whole, is := have.(interface{ contains(string) bool }); is {
			ok, text = whole.contains(want), fmt.Sprintf("%s does not say %q: %s", f.Name, want, have)
		}
	}
	if ok {
		return ""
	}
	return text
}

// seen says whether the runner has seen the newest versions of its maps that the
// harness has; else it names one.
func (v *view) seen() (any, string) {
	has, node := v.runner.Status.Maps, v.play.scenario.Runners[v.name].NodeMap(v.name)
	for name, m := range map[string]*api.MapStatus{api.GlobalMapName: has.Global, node: has.Node} {
		newest, ever := v.summary.Maps[v.play.env.Namespace()+"/"+name]
		version := cmp.Or(m, &api.MapStatus{}).ResourceVersion
		if ever && (mapwatch.Older(version, newest.ResourceVersion) || newest.Deleted && version == newest.ResourceVersion) {
			return false, fmt.Sprintf("%s is at version %s, the runner saw %s", name, newest.ResourceVersion, cmp.Or(version, scenario.None))
		}
	}
	return true, ""
}

// describeSubject says what is known of a subject.
func (p *play) describeSubject(s *history.Summary, subject string) string {
	var all []string
	for _, v := range p.views(subject, s) {
		all = append(all, v.describe(factTable))
	}
	return strings.Join(all, "\n  and ")
}

// describe says what some facts are, in the words of conditions. It leaves out what is
// not known, and what is nothing.
func (v *view) describe(facts []fact) string {
	of, nothing := scenario.OfRunners, []string{scenario.None, "0", "false", "0 lines"}
	if v.runner == nil {
		of = scenario.OfTasks
	}
	var known []string
	for _, f := range facts {
		if f.Of&of == 0 {
			continue
		}
		switch have, about := f.read(v); {
		case have != nil && about != "":
			known = append(known, fmt.Sprintf("%s %v (%s)", f.Name, have, about))
		case have != nil && !slices.Contains(nothing, fmt.Sprint(have)):
			known = append(known, fmt.Sprintf("%s %v", f.Name, have))
		}
	}
	return cmp.Or(strings.Join(known, ", "), "nothing yet")
}
