package engine

import (
	"context"
	"errors"
	"time"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/rules"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

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
	seen := rules.Allowed{Gaps: true, Repeats: o.Repeats != ""}
	return errors.Join(o.play.nothingLost(), seen.Broken(o.play.record.Entries()))
}
