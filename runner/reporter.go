package main

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
	"github.com/studioml/studio-go-runner/runner/internal/observe"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/scheduler"
)

// reporter tells what the lifecycle has decided: to the status, to the tasks, to
// the log, in metrics and in Events.
type reporter struct {
	log     *slog.Logger
	metrics *observe.Metrics
	events  *observe.Events // nil where there is no cluster
	board   *observe.Board
	work    *scheduler.Scheduler
	gpus    *gpu.Pool
}

// publish shows what is so after each step of the lifecycle, to the tasks as well: a
// drain is a file for them.
func (t *reporter) publish(r lifecycle.Report, m lifecycle.Snapshot, memory lifecycle.Memory, g gate.Snapshot) {
	// At its own limit a runner lets its tasks end in their own time.
	t.work.SetDraining(r.Effective != api.Running || r.Source == api.SourceSignal)
	s := t.board.Latest() // for what does not change
	s.Phase, s.Target, s.Reason = r.Phase, r.Target, r.Reason
	s.Effective, s.Source, s.Shadowed, s.ResourceVersion = r.Effective, r.Source, r.Shadowed, r.ResourceVersion
	s.Why, s.DrainDeadline = r.Why, r.Deadline
	s.Maps.Global = mapStatus(m.Global, memory.Global, r.GlobalProblem)
	s.Maps.Node = mapStatus(m.Node, memory.Node, r.NodeProblem)
	s.Tasks, s.InFlight = g.Counts, g.InFlight
	s.GPUs, s.GPUProblem = t.gpus.List(), t.gpus.Problem()
	t.board.Publish(s)
}

func mapStatus(v lifecycle.View, inForce api.State, problem *lifecycle.Problem) *api.MapStatus {
	if v.Name == "" {
		return nil
	}
	s := &api.MapStatus{
		Name: v.Name, Readable: v.Known && v.Unreadable == "", Present: v.Present,
		Value: inForce, ResourceVersion: v.ResourceVersion,
	}
	if problem != nil {
		s.Problem = problem.Text
	}
	return s
}

// transition logs a change of what is reported; one of the phase is counted, and an Event.
func (t *reporter) transition(from, to lifecycle.Report) {
	shadowed, weaker := api.Shadowed{}, ""
	if to.Shadowed != nil {
		shadowed = *to.Shadowed
		weaker = fmt.Sprintf("; the %s map says %s", shadowed.Source, shadowed.Value)
	}
	t.log.Info("transition", "from", from.Phase, "to", to.Phase, "effective", to.Effective, "source", to.Source,
		"resource_version", to.ResourceVersion, "target", to.Target,
		"shadowed", shadowed.Value, "shadowed_source", shadowed.Source,
		"reason", to.Reason, "why", to.Why, "drain_deadline", to.Deadline)
	t.metrics.Transition(from.Phase, to.Phase)
	if from.Phase != to.Phase {
		s := t.board.Latest() // which has it by now
		t.events.Transition(s, fmt.Sprintf("%s to %s%s, source %s%s%s%s, runner %s%s", from.Phase, to.Phase,
			after(", target ", string(to.Target)), to.Source, after(", version ", to.ResourceVersion),
			after(", drain deadline ", to.Deadline), after(", because: ", to.Why), s.Runner, weaker))
	}
}

// problem does the same for what is wrong with a map.
func (t *reporter) problem(v lifecycle.View, p lifecycle.Problem) {
	t.log.Warn("map problem", "map", v.Name, "kind", p.Kind, "problem", p.Text,
		"resource_version", v.ResourceVersion, "heard", t.board.Latest().Heard)
	scope := api.SourceNode
	if v.Name == api.GlobalMapName {
		scope = api.SourceGlobal
	}
	t.metrics.Problem(string(scope), string(p.Kind))
	if p.Kind != lifecycle.ProblemUnreadable {
		t.events.Problem(v.Name, p.Text)
	}
}

// announce tells the queue, as well as it can, what the runner could run, until ctx
// ends: at once where that has changed, and now and then where it has not.
func announce(ctx context.Context, board *observe.Board, slots func() int, to queue.Offers) error {
	const often, seldom = 200 * time.Millisecond, 10 * time.Second
	tick := time.NewTicker(often)
	defer tick.Stop()
	var last api.Offer
	var told time.Time
	for {
		now := offer(board.Latest(), slots())
		if !reflect.DeepEqual(now, last) || time.Since(told) >= seldom {
			if to.Announce(ctx, now) == nil {
				last, told = now, time.Now()
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// offer is what a status says to those who have tasks.
func offer(s api.Status, slots int) api.Offer {
	o := api.Offer{Runner: s.Runner, Phase: s.Phase, Slots: slots, Running: s.Tasks.Running + s.Tasks.Waiting}
	for _, g := range s.GPUs {
		if g.Health == api.Healthy {
			o.GPUs = append(o.GPUs, api.Bytes(g.MemoryBytes))
		}
	}
	return o
}
