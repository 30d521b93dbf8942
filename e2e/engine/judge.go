package engine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// view is what there is to know of one subject at one moment.
type view struct {
	play    *play
	facts   *history.Facts
	look    look
	subject string
	group   string          // of tasks; empty for all of them
	runner  *history.Runner // nil for tasks
	// started and finished count attempts.
	started, finished int
}

// view returns what is known of a subject that is one runner, or tasks.
func (p *play) view(subject string, facts *history.Facts, seen look) *view {
	v := &view{play: p, facts: facts, look: seen, subject: subject}
	if group, ok := taskGroup(subject); ok {
		v.group = group
		v.started, v.finished = facts.Counts(group)
		return v
	}
	v.runner = facts.Runner(subject)
	v.started, v.finished = v.runner.Started, v.runner.Finished
	return v
}

// taskGroup returns the group that a subject stands for, empty for all tasks.
func taskGroup(subject string) (group string, ok bool) {
	if subject == scenario.Tasks {
		return "", true
	}
	return strings.CutPrefix(subject, scenario.Tasks+"/")
}

// together are the runners that a subject stands for, nil if it is tasks.
func (p *play) together(subject string) []string {
	if subject == scenario.Runners {
		return slices.Sorted(maps.Keys(p.scenario.Runners))
	}
	if _, ok := taskGroup(subject); ok {
		return nil
	}
	return strings.Split(subject, "+")
}

// verdict is how the facts compare with conditions.
type verdict struct {
	wrong []string // what is not as wanted, a sentence each
	// hopeless says why waiting cannot help, if it cannot.
	hopeless string
}

func (v verdict) ok() bool { return len(v.wrong) == 0 }

// judge compares what is known with conditions: with all of them, or only with
// those on facts from the record. What is asked for and not known is wrong.
func (p *play) judge(facts *history.Facts, that scenario.Conditions, seen look, all bool) verdict {
	var v verdict
	for _, subject := range slices.Sorted(maps.Keys(that)) {
		for _, name := range slices.Sorted(maps.Keys(that[subject])) {
			f := factOf(name)
			if !all && f.from > fromStatus {
				continue
			}
			wrong, hopeless := p.compare(f, subject, facts, seen, that[subject][name])
			if wrong == "" {
				continue
			}
			if len(that) > 1 {
				wrong = subject + ": " + wrong
			}
			v.wrong = append(v.wrong, wrong)
			if hopeless != "" {
				v.hopeless = cmp.Or(v.hopeless, subject+": "+hopeless)
			}
		}
	}
	return v
}

// compare says what is wrong with a fact of a subject, and why that cannot
// change any more, if it cannot.
func (p *play) compare(f *fact, subject string, facts *history.Facts, seen look, want any) (wrong, hopeless string) {
	have, about, v := p.read(f, subject, facts, seen)
	if have == nil {
		wrong = fmt.Sprintf("%s is not known: %s", f.Name, about)
	} else if wrong = differ(v, f, have, want); wrong == "" {
		return "", ""
	} else if about != "" {
		wrong += " (" + about + ")"
	}
	switch n, _ := have.(int); {
	case f.steps:
		hopeless = "only steps change " + f.Name
	case f.grows:
		if most, ok := want.(int); ok && n > most {
			hopeless = f.Name + " never gets smaller"
		}
	case f.from != fromQueue && v.runner != nil && v.runner.Exit != nil:
		hopeless = fmt.Sprintf("it has exited with %d (%s), so this will not come any more",
			v.runner.Exit.Code, cmp.Or(v.runner.Exit.Message, "no message"))
	}
	return wrong, hopeless
}

// read returns what is so of a subject; numbers of several runners are added up.
func (p *play) read(f *fact, subject string, facts *history.Facts, seen look) (have any, about string, v *view) {
	runners := p.together(subject)
	if len(runners) < 2 && subject != scenario.Runners {
		v = p.view(subject, facts, seen)
		have, about = f.read(v)
		return have, about, v
	}
	sum := 0
	for _, name := range runners {
		v = p.view(name, facts, seen)
		one, about := f.read(v)
		n, ok := one.(int)
		if !ok {
			return nil, name + ": " + about, v
		}
		sum += n
	}
	v.runner = nil // the end of one of them is not the end of all
	return sum, "", v
}

// differ says how what is so differs from what is wanted.
func differ(v *view, f *fact, have, want any) string {
	switch want := want.(type) {
	case scenario.Duration:
		if age := have.(scenario.Duration); age > want {
			return fmt.Sprintf("%s is %s ago, want at most %s", f.Name, age, want)
		}
		return ""
	case scenario.Growth:
		before, about := f.read(&view{play: v.play, subject: v.subject, look: v.play.marks[want.Since].look})
		if before == nil {
			return fmt.Sprintf("%s was not known at %s: %s", f.Name, want.Since, about)
		}
		if more := have.(float64) - before.(float64); more > float64(want.Most) {
			return fmt.Sprintf("%s is %v, which is %v more than at %s, want at most %d", f.Name, have, more, want.Since, want.Most)
		}
		return ""
	case string:
		if whole, ok := have.(interface{ says(string) bool }); ok {
			if !whole.says(want) {
				return fmt.Sprintf("%s does not say %q: %s", f.Name, want, have)
			}
			return ""
		}
	}
	if have != want {
		return fmt.Sprintf("%s is %v, want %v", f.Name, have, want)
	}
	return ""
}

// describeSubject says what is known of a subject.
func (p *play) describeSubject(f *history.Facts, subject string) string {
	if runners := p.together(subject); runners != nil {
		var all []string
		for _, name := range runners {
			all = append(all, f.Runner(name).Describe())
		}
		return strings.Join(all, "\n  and ")
	}
	group, _ := taskGroup(subject)
	started, finished := f.Counts(group)
	text := fmt.Sprintf("%d started, %d finished", started, finished)
	if f.Queue != nil {
		in := placesIn(f.Queue, group)
		text += fmt.Sprintf("; in the queue, when it was last read: %d free, %d claimed, %d dead", in.ready, in.claimed, in.dead)
	}
	return text
}
