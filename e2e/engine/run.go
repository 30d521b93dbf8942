// Package engine plays a scenario in an Env: it does the steps, keeps the
// record, and compares that with what the scenario expects. It knows no
// target, and no test framework.
package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/mapwatch"
	"github.com/studioml/studio-go-runner/e2e/rules"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

// play is one scenario while it runs.
type play struct {
	env      targets.Env
	scenario scenario.Scenario
	record   *history.History
	maps     *mapwatch.Watch // a source of the record

	// sources feed the record with maps and what tasks note, and live as long as ctx; what
	// a runner tells comes from the Env.
	ctx     context.Context
	sources sync.WaitGroup

	// streams submit tasks until done is closed, which is after the last step.
	streams sync.WaitGroup
	done    chan struct{}

	runners map[string]*runner
	then    map[scenario.Mark]*history.Summary // at each mark

	mu        sync.Mutex // guards what follows
	submitted []string   // ids of all tasks
}

// runner is one that was started at least once.
type runner struct {
	targets.Runner
	tells history.Process // its newest one
}

// Run plays the scenario and returns what was not as expected, with the line
// of the file. It ends with the scenario's timeout. The Env is left as it is,
// for a look at it and for Close.
func Run(ctx context.Context, env targets.Env, s scenario.Scenario, record *history.History) error {
	limit := Stretch(time.Duration(s.Timeout))
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the scenario's timeout of %s is over", limit))
	defer cancel()
	return begin(ctx, env, s, record, func(p *play) error {
		err := p.steps(s.Steps)
		close(p.done)
		p.streams.Wait() // so that tasks can be counted
		if err != nil {
			// A rule that was broken may well be the reason.
			return errors.Join(err, allowed(s).Broken(record.Entries()))
		}
		if err := p.logStep(0, "invariants", p.invariants); err != nil {
			return fmt.Errorf("%s: after the last step: %w", s.Location(), err)
		}
		return nil
	})
}

// Attend brings about what there is before the first step, as Run does, and then
// leaves the steps to people until ctx ends.
func Attend(ctx context.Context, env targets.Env, s scenario.Scenario, record *history.History) error {
	return begin(ctx, env, s, record, func(*play) error { <-ctx.Done(); return nil })
}

// begin brings about what there is before the first step, and lets the rest follow.
// Nothing of the engine goes on when it returns; runners do, until the Env is closed.
func begin(ctx context.Context, env targets.Env, s scenario.Scenario, record *history.History, rest func(*play) error) error {
	ctx, cancel := context.WithCancel(ctx)
	p := &play{
		env: env, scenario: s, record: record, ctx: ctx,
		runners: make(map[string]*runner), then: make(map[scenario.Mark]*history.Summary), done: make(chan struct{}),
	}
	defer p.sources.Wait()
	defer p.streams.Wait()
	defer cancel()
	if err := p.logStep(0, "prepare", p.prepare); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", s.Location(), err), allowed(s).Broken(record.Entries()))
	}
	return rest(p)
}

// logStep does one thing and notes in the record when it begins and how it ends.
func (p *play) logStep(line int, text string, what func() error) error {
	p.record.Add(history.Entry{Step: &history.Step{Line: line, Text: text}})
	end := &history.Step{Line: line, Text: text, Ended: true}
	err := what()
	if err != nil {
		end.Error = err.Error()
	}
	p.record.Add(history.Entry{Step: end})
	return err
}

// Stretch multiplies a time with E2E_TIME_FACTOR, for slow and busy machines.
func Stretch(d time.Duration) time.Duration {
	if f, err := strconv.ParseFloat(os.Getenv("E2E_TIME_FACTOR"), 64); err == nil && f > 0 {
		return time.Duration(float64(d) * f)
	}
	return d
}

// NodeMaps returns the names of the node maps of a scenario's runners.
func NodeMaps(s scenario.Scenario) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.Runners)) {
		if m := s.Runners[name].NodeMap(name); m != "" {
			names = append(names, m)
		}
	}
	return names
}

// Idle says whether a scenario gives runners no task, and never looks at the queue.
func Idle(s scenario.Scenario) bool {
	all := scenario.Actions[scenario.Conditions](s.Steps)
	for _, n := range scenario.Actions[Never](s.Steps) {
		all = append(all, n.That)
	}
	for _, that := range all {
		for _, condition := range that {
			for name := range condition {
				if factOf(name).ask == theQueue {
					return false
				}
			}
		}
	}
	return len(s.Tasks)+len(scenario.Actions[scenario.Submit](s.Steps))+len(scenario.Actions[owner](s.Steps)) == 0
}

// prepare brings about what there is before the first step: maps, tasks and
// runners, in that order.
func (p *play) prepare() error {
	if err := p.watch(); err != nil {
		return err
	}
	before := []scenario.Step{{Verb: "apply", Value: p.scenario.Maps}}
	for _, s := range p.scenario.Tasks {
		before = append(before, scenario.Step{Verb: "submit", Value: s})
	}
	var runners start
	for _, name := range slices.Sorted(maps.Keys(p.scenario.Runners)) {
		if !p.scenario.Runners[name].Delayed {
			runners = append(runners, scenario.RunnerName(name))
		}
	}
	for _, step := range append(before, scenario.Step{Verb: "start", Value: runners}) {
		if err := p.do(step); err != nil {
			return err
		}
	}
	return nil
}

// steps does steps in order, each with an entry of its own in the record.
func (p *play) steps(all []scenario.Step) error {
	for _, step := range all {
		if err := p.logStep(step.Line, detail(step), func() error { return p.do(step) }); err != nil {
			return err
		}
	}
	return nil
}

// do does a step. Its error says where it stands, if it stands in the file.
func (p *play) do(step scenario.Step) error {
	err := verbs[step.Verb](step.Value, p.ctx, p)
	if err == nil {
		return nil
	}
	if end := p.ctx.Err(); end != nil && errors.Is(err, end) {
		err = fmt.Errorf("%w: %w", err, context.Cause(p.ctx))
	}
	err = fmt.Errorf("%s: %w", step.Verb, err)
	if step.Line > 0 {
		err = fmt.Errorf("%s:%d: %w", p.scenario.Path, step.Line, err)
	}
	return err
}

// detail is the whole step in one line, as JSON, for the record.
func detail(s scenario.Step) string {
	text, err := json.Marshal(map[string]any{s.Verb: s.Value})
	if err != nil {
		return s.Verb
	}
	return string(text)
}

// Observation is the record of a place whose runners are started and ended by
// others, such as a Job of Kubernetes, with the rules that hold of every scenario.
type Observation struct {
	play *play
	end  context.CancelFunc
	// Repeats says why attempts may be repeated, empty if nothing does that.
	Repeats string
}

// Observe begins to record the maps and what tasks note, until Close.
func Observe(ctx context.Context, env targets.Env, record *history.History) (*Observation, error) {
	ctx, cancel := context.WithCancel(ctx)
	o := &Observation{play: &play{env: env, record: record, ctx: ctx}, end: cancel}
	if err := o.play.watch(); err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

// Close ends the record.
func (o *Observation) Close() {
	o.end()
	o.play.sources.Wait()
	o.play.streams.Wait()
}

// Submit puts tasks into the queue, and remembers them.
func (o *Observation) Submit(s scenario.Submit) error {
	return o.play.do(scenario.Step{Verb: "submit", Value: s})
}

// Settled waits until every task that was submitted is finished, for as long as ctx
// lets it.
func (o *Observation) Settled(ctx context.Context) error {
	if err := o.play.await(ctx, scenario.Conditions{scenario.Tasks: {"left": 0, "dead": 0}}, time.Hour); err != nil {
		return err
	}
	return o.Rules()
}

// Rules says which rule of every scenario does not hold: nothing lost, the gate,
// no duplicates, unshared GPUs, honest reports. What a runner says comes in pieces
// here, since it may be out of reach for a while.
func (o *Observation) Rules() error {
	seen := rules.Allowed{Gaps: true, Fails: everything, Cancels: true}
	if o.Repeats != "" {
		seen.Repeats = everything
	}
	return errors.Join(o.play.nothingLost(seen), seen.Broken(o.play.record.Entries()))
}
