package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

// observed is what the record does not have by itself and must be asked for.
// What was not asked for is not compared.
type observed struct {
	queue  *api.QueueContents
	probes map[string]bool // runner/path -> answer
}

// recheck is how often that is asked for while a condition needs it.
const recheck = 200 * time.Millisecond

// await waits until all conditions hold at once.
func (p *play) await(that map[string]scenario.Condition) error {
	var wrong []string
	hopeless := false
	err := p.bounded(awaitBudget, func(ctx context.Context) error {
		for {
			// First what the record shows, which costs nothing to wait for.
			err := p.record.Wait(ctx, func(f *history.Facts) bool {
				wrong, hopeless = p.mismatches(f, that, observed{})
				return len(wrong) == 0 || hopeless
			})
			if err != nil || hopeless || !asksFor(that) {
				return err
			}
			var seen observed
			if err := p.observe(ctx, that, &seen); err != nil {
				return err
			}
			length := 0
			p.record.View(func(f *history.Facts) {
				wrong, hopeless = p.mismatches(f, that, seen)
				length = f.Entries
			})
			if len(wrong) == 0 || hopeless {
				return nil
			}
			// Ask again after the next entry, or a moment later.
			again, cancel := context.WithTimeout(ctx, recheck)
			_ = p.record.Wait(again, func(f *history.Facts) bool { return f.Entries > length })
			cancel()
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	})
	if err == nil && hopeless {
		err = errHopeless
	}
	if err != nil && len(wrong) > 0 {
		return fmt.Errorf("%s\n(%w)%s", strings.Join(wrong, "\n"), err, p.lastWords(that))
	}
	return err
}

// errHopeless means that waiting longer cannot help.
var errHopeless = errors.New("the runner has ended, so this will not come any more")

// expect says whether all conditions hold now.
func (p *play) expect(that map[string]scenario.Condition) error {
	return p.bounded(queueBudget, func(ctx context.Context) error {
		var seen observed
		if asksFor(that) {
			if err := p.observe(ctx, that, &seen); err != nil {
				return err
			}
		}
		var wrong []string
		p.record.View(func(f *history.Facts) { wrong, _ = p.mismatches(f, that, seen) })
		if len(wrong) > 0 {
			return errors.New(strings.Join(wrong, "\n") + p.lastWords(that))
		}
		return nil
	})
}

// never looks at the facts as they were after each entry since the mark.
func (p *play) never(n scenario.Never) error {
	since := p.marks[n.Since] // 0 without a mark: the beginning
	facts := history.NewFacts()
	for i, e := range p.record.Entries() {
		facts.Apply(e)
		if i < since {
			continue
		}
		for _, subject := range slices.Sorted(maps.Keys(n.That)) {
			c := n.That[subject]
			if c.Log != "" && !(e.Runner == subject && strings.Contains(e.Log, c.Log)) {
				continue
			}
			c.Log = ""
			if runner, ok := facts.Runners[subject]; ok && runner.Status == nil {
				continue // it has not said anything yet
			}
			if wrong, _ := p.mismatches(facts, map[string]scenario.Condition{subject: c}, observed{}); len(wrong) == 0 {
				return fmt.Errorf("%s: what must never be was so: %s", subject, p.describeSubject(facts, subject))
			}
		}
	}
	return nil
}

// asksFor says whether a condition needs more than the record.
func asksFor(that map[string]scenario.Condition) bool {
	for _, c := range that {
		if c.Left != nil || c.Queued != nil || c.Dead != nil || c.Live != nil || c.Ready != nil {
			return true
		}
	}
	return false
}

// observe asks for what the conditions need beyond the record.
func (p *play) observe(ctx context.Context, that map[string]scenario.Condition, seen *observed) error {
	seen.probes = make(map[string]bool)
	for subject, c := range that {
		if (c.Left != nil || c.Queued != nil || c.Dead != nil) && seen.queue == nil {
			contents, err := p.readQueue(ctx)
			if err != nil {
				return err
			}
			seen.queue = &contents
		}
		for path, want := range map[string]*bool{"/livez": c.Live, "/readyz": c.Ready} {
			r := p.runners[subject]
			if want == nil || r == nil {
				continue
			}
			ok, err := r.Probe(ctx, path)
			if err != nil {
				return fmt.Errorf("probe %s of %s: %w", path, subject, err)
			}
			seen.probes[subject+path] = ok
		}
	}
	return nil
}

// readQueue reads the queue and keeps in the record what has changed.
func (p *play) readQueue(ctx context.Context) (api.QueueContents, error) {
	contents, err := p.env.Queue(ctx)
	if err != nil {
		return contents, err
	}
	changed := false
	p.record.View(func(f *history.Facts) { changed = f.Queue == nil || fmt.Sprint(*f.Queue) != fmt.Sprint(contents) })
	if changed {
		p.record.Add(history.Entry{Queue: &contents})
	}
	return contents, nil
}

// mismatches compares the facts with the conditions. Hopeless means that a
// mismatch will stay, because the runner has ended.
func (p *play) mismatches(f *history.Facts, that map[string]scenario.Condition, seen observed) (wrong []string, hopeless bool) {
	for _, subject := range slices.Sorted(maps.Keys(that)) {
		c := that[subject]
		m := &comparison{subject: subject}
		if group, ok := taskGroup(subject); ok {
			m.tasks(f, c, group, seen.queue)
		} else {
			p.compareRunner(m, f, c, seen)
			if exit := f.Runner(subject).Exit; exit != nil && len(m.wrong) > 0 {
				hopeless = true
			}
		}
		wrong = append(wrong, m.wrong...)
	}
	return wrong, hopeless
}

// taskGroup returns the group that a subject stands for, empty for all tasks.
func taskGroup(subject string) (group string, ok bool) {
	if subject == scenario.Tasks {
		return "", true
	}
	return strings.CutPrefix(subject, scenario.Tasks+"/")
}

// comparison collects what is not as wanted of one subject.
type comparison struct {
	subject string
	wrong   []string
}

func (m *comparison) text(field, have, want string) {
	if want != "" && have != want {
		m.wrong = append(m.wrong, fmt.Sprintf("%s: %s is %s, want %s", m.subject, field, orNone(have), want))
	}
}

func (m *comparison) contains(field, have, want string) {
	if want != "" && !strings.Contains(have, want) {
		m.wrong = append(m.wrong, fmt.Sprintf("%s: %s does not say %q: %s", m.subject, field, want, orNone(have)))
	}
}

func number[T comparable](m *comparison, field string, have T, want *T) {
	if want != nil && have != *want {
		m.wrong = append(m.wrong, fmt.Sprintf("%s: %s is %v, want %v", m.subject, field, have, *want))
	}
}

func orNone(text string) string {
	if text == "" {
		return scenario.None
	}
	return text
}

func (m *comparison) tasks(f *history.Facts, c scenario.Condition, group string, queue *api.QueueContents) {
	started, finished := f.Counts(group)
	number(m, "started", started, c.Started)
	number(m, "finished", finished, c.Finished)
	if queue == nil {
		return
	}
	count := func(tasks []api.QueuedTask) (n int) {
		for _, t := range tasks {
			if history.InGroup(t.ID, group) {
				n++
			}
		}
		return n
	}
	ready, dead := count(queue.Ready), 0
	for _, d := range queue.Dead {
		if d.Task != nil && history.InGroup(d.Task.ID, group) {
			dead++
		}
	}
	number(m, "left", ready+count(queue.Claimed), c.Left)
	number(m, "queued", ready, c.Queued)
	number(m, "dead", dead, c.Dead)
}

func (p *play) compareRunner(m *comparison, f *history.Facts, c scenario.Condition, seen observed) {
	r := f.Runner(m.subject)
	number(m, "processes", r.Processes, c.Processes)
	number(m, "started", r.Started, c.Started)
	number(m, "finished", r.Finished, c.Finished)
	if c.Log != "" && !r.Logged(c.Log) {
		m.wrong = append(m.wrong, fmt.Sprintf("%s: no log line says %q", m.subject, c.Log))
	}
	if c.Exit != nil {
		if r.Exit == nil {
			m.wrong = append(m.wrong, fmt.Sprintf("%s: it has not ended, want exit code %d", m.subject, *c.Exit))
		} else {
			number(m, "exit code", r.Exit.Code, c.Exit)
		}
	}
	if seen.probes != nil {
		number(m, "/livez", seen.probes[m.subject+"/livez"], c.Live)
		number(m, "/readyz", seen.probes[m.subject+"/readyz"], c.Ready)
	}
	s := r.Status
	if s == nil {
		s = &api.Status{}
		if needsStatus(c) {
			m.wrong = append(m.wrong, m.subject+": it has not reported anything yet")
			return
		}
	}
	m.text("phase", string(s.Phase), c.Phase)
	m.text("effective", orNone(string(s.Effective)), c.Effective)
	m.text("target", string(s.Target), c.Target)
	m.text("source", string(s.Source), c.Source)
	shadowed := scenario.None
	if s.Shadowed != nil {
		shadowed = string(s.Shadowed.Value)
	}
	m.text("shadowed", shadowed, c.Shadowed)
	number(m, "running", s.Tasks.Running, c.Running)
	number(m, "waiting", s.Tasks.Waiting, c.Waiting)
	number(m, "gpus", len(s.GPUs), c.GPUs)
	busy := 0
	for _, g := range s.GPUs {
		if g.Task != "" {
			busy++
		}
	}
	number(m, "gpusBusy", busy, c.GPUsBusy)
	number(m, "transitions", r.Transitions, c.Transitions)
	m.contains("reason", s.Reason, c.Reason)
	m.contains("problem", problems(s), c.Problem)
	if c.Seen != nil && p.unseen(f, s) != "" == *c.Seen {
		m.wrong = append(m.wrong, fmt.Sprintf("%s: seen is %v: %s", m.subject, !*c.Seen, orNone(p.unseen(f, s))))
	}
}

// needsStatus says whether a condition looks at a runner's status.
func needsStatus(c scenario.Condition) bool {
	return c.Phase != "" || c.Effective != "" || c.Target != "" || c.Source != "" || c.Shadowed != "" || c.Running != nil ||
		c.Waiting != nil || c.GPUs != nil || c.GPUsBusy != nil || c.Problem != "" || c.Reason != "" || c.Seen != nil || c.Transitions != nil
}

// unseen names a map of which the runner has not seen the newest version that
// the harness has, empty if there is none.
func (p *play) unseen(f *history.Facts, s *api.Status) string {
	for _, m := range []*api.MapStatus{s.Maps.Global, s.Maps.Node} {
		if m == nil {
			continue
		}
		if newest := f.Maps[p.env.Namespace()+"/"+m.Name]; older(m.ResourceVersion, newest.ResourceVersion) {
			return fmt.Sprintf("%s is at version %s, the runner saw %s", m.Name, newest.ResourceVersion, orNone(m.ResourceVersion))
		}
	}
	return ""
}

func problems(s *api.Status) string {
	var all []string
	for _, m := range []*api.MapStatus{s.Maps.Global, s.Maps.Node} {
		if m != nil && m.Problem != "" {
			all = append(all, m.Problem)
		}
	}
	return strings.Join(all, "; ")
}

// describeSubject says what is known of a subject.
func (p *play) describeSubject(f *history.Facts, subject string) string {
	if group, ok := taskGroup(subject); ok {
		started, finished := f.Counts(group)
		return fmt.Sprintf("%d started, %d finished", started, finished)
	}
	r := f.Runner(subject)
	var text string
	switch {
	case r.Processes == 0:
		text = "never started"
	case r.Status == nil:
		text = "no status yet"
	default:
		text = history.Describe(r.Status)
	}
	if r.Exit != nil {
		text += fmt.Sprintf("; exited with %d: %s", r.Exit.Code, r.Exit.Message)
	}
	return text
}

// lastWords says what is known of the subjects, with the end of the log of
// those that have ended.
func (p *play) lastWords(that map[string]scenario.Condition) string {
	const lines = 5
	var text strings.Builder
	p.record.View(func(f *history.Facts) {
		for _, subject := range slices.Sorted(maps.Keys(that)) {
			fmt.Fprintf(&text, "\n  %s: %s", subject, p.describeSubject(f, subject))
			if r, ok := f.Runners[subject]; ok && r.Exit != nil {
				for _, line := range r.Log[max(0, len(r.Log)-lines):] {
					text.WriteString("\n    " + line)
				}
			}
		}
	})
	return text.String()
}
