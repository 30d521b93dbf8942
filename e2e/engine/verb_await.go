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
	"github.com/studioml/studio-go-runner/e2e/targets"
)

func init() {
	add(scenario.Term{Name: "await", Doc: "Waits until all the conditions hold at once, by subject."},
		func(that scenario.Conditions, ctx context.Context, p *play) error {
			return p.await(ctx, that, budgetOf(that))
		})
	add(scenario.Term{Name: "expect",
		Doc: "Says what must hold already, by subject. It waits for nothing but the news of it: runners, tasks and the queue report each with a delay of their own."},
		func(that scenario.Conditions, ctx context.Context, p *play) error {
			return p.await(ctx, that, expectBudget)
		})
	add(scenario.Term{Name: "never",
		Doc: "Says what no entry of the record may show. An entry that meets every condition of a subject is a failure."}, Never.do)
}

// The budgets of what a scenario waits for, on a healthy machine. They are for
// failing with a clear word, not for measuring: each is far above what the thing
// takes. What a step does has the scenario's timeout.
const (
	// stateBudget is from a change of a map to what a runner says of it. After
	// an outage the runner may try again up to 4 s later.
	stateBudget = 30 * time.Second
	// silenceBudget is for a runner to say that it hears nothing from the API
	// server, which takes a minute at most (R4).
	silenceBudget = 75 * time.Second
	// taskBudget is for tasks to be started, to end, and to leave the queue. Those of a
	// runner that was killed may have to wait for the end of its lease, of 30 s, and for
	// the next look of another, up to 30 s later.
	taskBudget = 90 * time.Second
	// exitBudget is for a runner to end. One that cannot read the maps before
	// its exit gives up after 30 s (R6), which must fit; so must the grace
	// period of 20 s and what follows it.
	exitBudget = 50 * time.Second
	// expectBudget is for what has happened to be told: tasks, runners and the
	// queue speak over connections of their own, each with its own delay.
	expectBudget = 15 * time.Second
)

// errSlow is the cause of the end of a budget.
var errSlow = errors.New("it took too long")

// recheck is the longest pause before something is asked for again that a condition needs.
const recheck = 200 * time.Millisecond

// budgetOf is that of the slowest fact that conditions wait for.
func budgetOf(that scenario.Conditions) (most time.Duration) {
	for _, condition := range that {
		for name := range condition {
			most = max(most, factOf(name).budget)
		}
	}
	return most
}

// await waits until all conditions hold at once, for as long as the budget.
func (p *play) await(ctx context.Context, that scenario.Conditions, budget time.Duration) error {
	begun, so, entries := time.Now(), verdict{}, 0
	ctx, cancel := context.WithTimeoutCause(ctx, Stretch(budget), errSlow)
	defer cancel()
	look := func(all bool) {
		p.record.View(func(s *history.Summary) { so, entries = p.judge(s, that, all), s.Entries })
	}
	for {
		over := ctx.Err() != nil // what came until then counts
		// First what needs no asking, which costs nothing.
		if look(false); so.ok() {
			err := p.ask(ctx, that) // what is not known is wrong, and the record has why
			if look(true); so.ok() && err != nil {
				so.wrong = []string{err.Error()} // the answers are those of an earlier look
			}
		}
		switch {
		case so.ok():
			return nil
		case so.hopeless != "":
			return p.failed(that, so, so.hopeless)
		case over:
			return p.failed(that, so, waited(ctx, begun))
		}
		// Look again after the next entry, or a moment later.
		again, cancel := context.WithTimeout(ctx, recheck)
		_ = p.record.Wait(again, func(s *history.Summary) bool { return s.Entries > entries })
		cancel()
	}
}

// ask puts into the record what conditions need and it does not have by itself,
// but for what the end of ctx has cut short. Its error is that, or that of the queue.
func (p *play) ask(ctx context.Context, that scenario.Conditions) (err error) {
	queued := false
	for subject, condition := range that {
		for name := range condition {
			switch path, r := factOf(name).ask, p.runners[subject]; {
			case path == theQueue:
				queued = true
			case path != "" && r != nil:
				err = errors.Join(err, r.ask(ctx, path))
			}
		}
	}
	if queued {
		_, trouble := p.readQueue(ctx)
		err = errors.Join(err, trouble)
	}
	return err
}

// ask has a runner answer into the record. It fails if the end of ctx has cut that short.
func (r *runner) ask(ctx context.Context, path string) error {
	code, body, err := r.Get(ctx, path)
	a := &history.Answer{Path: path, Code: code, Body: string(body)}
	if err != nil {
		a.Error = err.Error()
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%s did not answer in time: %w", path, err)
	}
	r.tells.Add(history.Entry{Answer: a})
	return nil
}

// readQueue reads the queue and keeps in the record what has changed.
func (p *play) readQueue(ctx context.Context) (targets.Contents, error) {
	contents, err := p.env.Queue(ctx)
	if err != nil {
		err = fmt.Errorf("the queue cannot be read: %w", err)
		if ctx.Err() == nil {
			p.record.Add(history.Entry{Answer: &history.Answer{Error: err.Error()}})
		}
		return contents, err
	}
	same := false
	p.record.View(func(s *history.Summary) { same = s.QueueTrouble == "" && reflect.DeepEqual(s.Queue, &contents) })
	if !same {
		p.record.Add(history.Entry{Queue: &contents})
	}
	return contents, nil
}

// waited says how long something was waited for, and why no longer if that was
// not its own budget.
func waited(ctx context.Context, begun time.Time) string {
	text := "waited " + time.Since(begun).Round(100*time.Millisecond).String()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errSlow) {
		text += ", then " + cause.Error()
	}
	return text
}

// failed is the error of conditions that do not hold: what is not as wanted, why
// it was not waited for any longer, and what is known of the subjects.
func (p *play) failed(that scenario.Conditions, now verdict, why string) error {
	const lines = 5 // of the log of a runner that has ended
	var text strings.Builder
	text.WriteString(strings.Join(append(now.wrong, why), "; "))
	p.record.View(func(s *history.Summary) {
		for _, subject := range slices.Sorted(maps.Keys(that)) {
			fmt.Fprintf(&text, "\n  %s: %s", subject, p.describeSubject(s, subject))
			if r, ok := s.Runners[subject]; ok && r.Exit != nil {
				for _, line := range r.Log[max(0, len(r.Log)-lines):] {
					text.WriteString("\n    " + line)
				}
			}
		}
		for _, trouble := range s.Troubles {
			text.WriteString("\n  the record may have a gap: " + trouble)
		}
	})
	return errors.New(text.String())
}

// Never is what must not be in the record.
type Never struct {
	// Since is the mark to begin at; without it, the beginning of the record.
	Since scenario.Mark `json:"since,omitempty"`
	// Within is how long after the mark it counts; without it, till now. What must not be
	// too early is told so, however late it is: the mark is set before its cause. The step
	// ends with that time, if it is not over by then.
	Within scenario.Duration `json:"within,omitempty" with:"since"`
	// That are the conditions, by subject. A log line counts when it is written,
	// everything else as long as it is so.
	That scenario.Conditions `json:"that"`
}

// Check wants facts that a record can have.
func (n Never) Check(c *scenario.Checker, at string) {
	for subject, condition := range n.That {
		for name := range condition {
			if f := factOf(name); f.ask != "" && f.ask != theQueue {
				c.Bad(fmt.Sprintf("%s.that.%s.%s", at, subject, name), "is not in the record; use expect")
			}
		}
	}
}

// do looks at what was so after each entry since the mark, the last of which is a look into
// the queue, if that is asked for. What counts for a time is looked at when that is over.
func (n Never) do(ctx context.Context, p *play) error {
	if err := p.ask(ctx, n.That); err != nil {
		return err
	}
	since, within := p.marked(n.Since), time.Duration(n.Within)
	if left := within - time.Since(since.Time); left > 0 {
		if err := pause(ctx, left); err != nil {
			return err
		}
	}
	return eachOf(n.That, func(subject string, condition scenario.Condition) error {
		return p.never(subject, condition, since, within)
	})
}

// never fails if an entry shows what must never be, or if none could have shown it.
func (p *play) never(subject string, condition scenario.Condition, since history.Entry, within time.Duration) error {
	summary, entries, known := history.NewSummary(), p.record.Entries(), false
	for _, e := range entries {
		for _, r := range summary.Runners {
			r.Log = nil // a line counts when it is written
		}
		if within > 0 && e.Time.Sub(since.Time) >= within {
			break
		}
		summary.Apply(e)
		if e.Sequence < since.Sequence {
			continue
		}
		so := p.judge(summary, scenario.Conditions{subject: condition}, true)
		known = known || !so.unknown
		if so.ok() {
			return fmt.Errorf("what must never be was so, %s into the scenario: %s",
				e.Time.Sub(entries[0].Time).Round(time.Millisecond), p.describeSubject(summary, subject))
		}
	}
	if !known {
		return fmt.Errorf("nothing in the record could have shown it: %s", p.describeSubject(history.Sum(entries), subject))
	}
	return nil
}
