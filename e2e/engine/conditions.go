package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
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
	probes map[string]bool // subject/path -> answer
	// silent says what did not answer.
	silent []string
}

// recheck is how often that is asked for while a condition needs it.
const recheck = 200 * time.Millisecond

// await waits until all conditions hold at once, for as long as the budget.
func (p *play) await(that map[string]scenario.Condition, budget time.Duration) error {
	var now verdict
	begun := time.Now()
	ctx, cancel := context.WithTimeoutCause(p.ctx, Stretch(budget), errSlow)
	defer cancel()
	for {
		before := now
		// First what the record shows, which costs nothing to wait for.
		err := p.record.Wait(ctx, func(f *history.Facts) bool {
			now = p.judge(f, that, observed{})
			return now.ok() || now.hopeless != ""
		})
		length := 0
		if err == nil && now.ok() && asksFor(that) {
			p.record.View(func(f *history.Facts) { length = f.Entries })
			seen := p.observe(ctx, that)
			p.record.View(func(f *history.Facts) { now = p.judge(f, that, seen) })
			if len(seen.silent) > 0 && ctx.Err() != nil && !before.ok() {
				now = before // this look was cut short, so the one before says more
			}
		}
		switch {
		case now.ok():
			return nil
		case now.hopeless != "":
			return p.failed(that, now, now.hopeless)
		case ctx.Err() != nil:
			return p.failed(that, now, waited(ctx, begun))
		}
		// Ask again after the next entry, or a moment later.
		again, cancel := context.WithTimeout(ctx, recheck)
		_ = p.record.Wait(again, func(f *history.Facts) bool { return f.Entries > length })
		cancel()
	}
}

// never looks at the facts as they were after each entry since the mark. A log
// line counts when it is written, everything else as long as it is so.
func (p *play) never(n scenario.Never) error {
	since := p.marks[n.Since] // 0 without a mark: the beginning
	facts, entries := history.NewFacts(), p.record.Entries()
	for i, e := range entries {
		facts.Apply(e)
		if i < since {
			continue
		}
		for _, subject := range slices.Sorted(maps.Keys(n.That)) {
			c := n.That[subject]
			if c.Live != nil || c.Ready != nil {
				return fmt.Errorf("%s: never cannot look at live and ready, which are not in the record", subject)
			}
			if c.Log != "" && (e.Runner != subject || !strings.Contains(e.Log, c.Log)) {
				continue
			}
			c.Log = ""
			if asksQueue(c) && facts.Queue == nil {
				continue // nobody has looked yet
			}
			if now := p.judge(facts, map[string]scenario.Condition{subject: c}, observed{queue: facts.Queue}); now.ok() {
				return fmt.Errorf("%s: what must never be was so, %s into the scenario: %s", subject,
					e.Time.Sub(entries[0].Time).Round(time.Millisecond), p.describeSubject(facts, subject))
			}
		}
	}
	return nil
}

// asksFor says whether a condition needs more than the record.
func asksFor(that map[string]scenario.Condition) bool {
	for _, c := range that {
		if asksQueue(c) || c.Live != nil || c.Ready != nil {
			return true
		}
	}
	return false
}

func asksQueue(c scenario.Condition) bool { return c.Left != nil || c.Queued != nil || c.Dead != nil }

// observe asks for what the conditions need beyond the record.
func (p *play) observe(ctx context.Context, that map[string]scenario.Condition) observed {
	seen := observed{probes: make(map[string]bool)}
	asked := false
	for _, subject := range slices.Sorted(maps.Keys(that)) {
		c := that[subject]
		if asksQueue(c) && !asked {
			asked = true
			if contents, err := p.readQueue(ctx); err != nil {
				seen.silent = append(seen.silent, fmt.Sprintf("the queue cannot be read: %v", err))
			} else {
				seen.queue = &contents
			}
		}
		r := p.runners[subject]
		if r == nil {
			continue
		}
		for _, probe := range probesOf(c) {
			ok, err := r.Probe(ctx, probe.path)
			if err != nil {
				seen.silent = append(seen.silent, fmt.Sprintf("%s: %s does not answer: %v", subject, probe.path, err))
				continue
			}
			seen.probes[subject+probe.path] = ok
		}
	}
	return seen
}

// probe is a path of a runner that a condition asks for.
type probe struct {
	path string
	want *bool
}

func probesOf(c scenario.Condition) []probe {
	all := []probe{{"/livez", c.Live}, {"/readyz", c.Ready}}
	return slices.DeleteFunc(all, func(p probe) bool { return p.want == nil })
}

// readQueue reads the queue and keeps in the record what has changed.
func (p *play) readQueue(ctx context.Context) (api.QueueContents, error) {
	contents, err := p.env.Queue(ctx)
	if err != nil {
		return contents, err
	}
	changed := false
	p.record.View(func(f *history.Facts) { changed = f.Queue == nil || !reflect.DeepEqual(*f.Queue, contents) })
	if changed {
		p.record.Add(history.Entry{Queue: &contents})
	}
	return contents, nil
}

// failed is the error of conditions that do not hold: what is not as wanted, why
// it was not waited for any longer, and what is known of the subjects.
func (p *play) failed(that map[string]scenario.Condition, now verdict, why string) error {
	const lines = 5 // of the log of a runner that has ended
	var text strings.Builder
	text.WriteString(strings.Join(append(now.wrong, why), "; "))
	p.record.View(func(f *history.Facts) {
		for _, subject := range slices.Sorted(maps.Keys(that)) {
			fmt.Fprintf(&text, "\n  %s: %s", subject, p.describeSubject(f, subject))
			if r, ok := f.Runners[subject]; ok && r.Exit != nil {
				for _, line := range r.Log[max(0, len(r.Log)-lines):] {
					text.WriteString("\n    " + line)
				}
			}
		}
		for _, trouble := range f.Troubles {
			text.WriteString("\n  the record may have a gap: " + trouble)
		}
	})
	return errors.New(text.String())
}

// describeSubject says what is known of a subject.
func (p *play) describeSubject(f *history.Facts, subject string) string {
	group, ok := taskGroup(subject)
	if !ok {
		return f.Runner(subject).Describe()
	}
	started, finished := f.Counts(group)
	text := fmt.Sprintf("%d started, %d finished", started, finished)
	if f.Queue != nil {
		in := inQueue(f.Queue, group)
		text += fmt.Sprintf("; in the queue, when it was last read: %d free, %d claimed, %d dead", in.ready, in.claimed, in.dead)
	}
	return text
}

// taskGroup returns the group that a subject stands for, empty for all tasks.
func taskGroup(subject string) (group string, ok bool) {
	if subject == scenario.Tasks {
		return "", true
	}
	return strings.CutPrefix(subject, scenario.Tasks+"/")
}
