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
		before := now
		// First what the record shows, which costs nothing to wait for.
		err := p.record.Wait(ctx, func(f *history.Facts) bool {
			now = p.judge(f, that, look{}, false)
			return now.ok() || now.hopeless != ""
		})
		length := 0
		if err == nil && now.ok() {
			p.record.View(func(f *history.Facts) { length = f.Entries })
			seen := p.lookFor(ctx, that)
			p.record.View(func(f *history.Facts) { now = p.judge(f, that, seen, true) })
			if seen.cutShort() && ctx.Err() != nil && !before.ok() {
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
