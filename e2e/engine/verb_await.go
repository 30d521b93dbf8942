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

func init() {
	add(scenario.Verb{Name: "await", Doc: "Waits until all the conditions hold at once, by subject.", Asserts: true},
		func(that scenario.Conditions, p *play) error { return p.await(that, budgetOf(that)) })
	add(scenario.Verb{Name: "expect", Asserts: true,
		Doc: "Says what must hold already, by subject. It waits for nothing but the news of it: runners, tasks and the queue report each with a delay of their own."},
		func(that scenario.Conditions, p *play) error { return p.await(that, expectBudget) })
}

// recheck is how often something is asked for while a condition needs it.
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
func (p *play) await(that scenario.Conditions, budget time.Duration) error {
	var now verdict
	begun := time.Now()
	ctx, cancel := context.WithTimeoutCause(p.ctx, Stretch(budget), errSlow)
	defer cancel()
	for {
		before, entries := now, 0
		// First what needs no asking, which costs nothing to wait for.
		err := p.record.Wait(ctx, func(f *history.Facts) bool {
			now = p.judge(f, that, false)
			return now.ok() || now.hopeless != ""
		})
		if err == nil && now.ok() {
			_ = p.ask(ctx, that) // what is not known is wrong, and the record has why
			p.record.View(func(f *history.Facts) { now, entries = p.judge(f, that, true), f.Entries })
			if ctx.Err() != nil && !before.ok() {
				now = before // what was asked may have been cut short
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
		_ = p.record.Wait(again, func(f *history.Facts) bool { return f.Entries > entries })
		cancel()
	}
}

// ask puts into the record what conditions need and it does not have by itself,
// but for what the end of ctx has cut short. Its error is that of the queue.
func (p *play) ask(ctx context.Context, that scenario.Conditions) (err error) {
	asked := make(map[string]bool) // each is asked once
	for subject, condition := range that {
		for name := range condition {
			f := factOf(name)
			key := subject + f.path
			if f.queue != nil {
				key = "the queue"
			}
			if asked[key] || !f.asked() {
				continue
			}
			asked[key] = true
			if f.queue != nil {
				_, err = p.readQueue(ctx)
			} else if r := p.runners[subject]; r != nil {
				a := &history.Answer{Path: f.path}
				code, body, err := r.Get(ctx, f.path)
				if a.Code, a.Body = code, string(body); err != nil {
					a.Error = err.Error()
				}
				if err == nil || ctx.Err() == nil {
					teller{p.record, subject, r.process}.add(history.Entry{Answer: a})
				}
			}
		}
	}
	return err
}

// readQueue reads the queue and keeps in the record what has changed.
func (p *play) readQueue(ctx context.Context) (api.QueueContents, error) {
	contents, err := p.env.Queue(ctx)
	if err != nil {
		err = fmt.Errorf("the queue cannot be read: %w", err)
		if ctx.Err() == nil {
			p.record.Add(history.Entry{Answer: &history.Answer{Error: err.Error()}})
		}
		return contents, err
	}
	changed := false
	p.record.View(func(f *history.Facts) {
		changed = f.Queue == nil || f.QueueTrouble != "" || !reflect.DeepEqual(*f.Queue, contents)
	})
	if changed {
		p.record.Add(history.Entry{Queue: &contents})
	}
	return contents, nil
}

// failed is the error of conditions that do not hold: what is not as wanted, why
// it was not waited for any longer, and what is known of the subjects.
func (p *play) failed(that scenario.Conditions, now verdict, why string) error {
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
