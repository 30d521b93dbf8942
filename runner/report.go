package main

import (
	"fmt"
	"log/slog"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
	"github.com/studioml/studio-go-runner/runner/internal/observe"
)

// status puts together the status document from what is so now; what does not
// change comes from the one before.
func status(before api.Status, r lifecycle.Report, m lifecycle.Snapshot, memory lifecycle.Memory, g gate.Snapshot, gpus *gpu.Pool) api.Status {
	s := before
	s.Phase, s.Target, s.Reason = r.Phase, r.Target, r.Reason
	s.Effective, s.Source, s.Shadowed, s.ResourceVersion = r.Effective, r.Source, r.Shadowed, r.ResourceVersion
	s.Maps.Global = mapStatus(m.Global, memory.Global, r.GlobalProblem)
	s.Maps.Node = mapStatus(m.Node, memory.Node, r.NodeProblem)
	s.Tasks, s.InFlight = g.Counts, g.InFlight
	s.GPUs, s.GPUProblem = gpus.List(), gpus.Problem()
	return s
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

// tellTransition logs, counts and writes an Event for a change of what is
// reported.
func tellTransition(log *slog.Logger, metrics *observe.Metrics, events *observe.Events, from, to lifecycle.Report) {
	fields := []any{"from", from.Phase, "to", to.Phase, "effective", to.Effective, "source", to.Source, "resource_version", to.ResourceVersion}
	text := fmt.Sprintf("%s to %s", from.Phase, to.Phase)
	if to.Target != api.Unset {
		fields = append(fields, "target", to.Target)
		text += fmt.Sprintf(", target %s", to.Target)
	}
	text += fmt.Sprintf(", source %s", to.Source)
	if to.Shadowed != nil {
		fields = append(fields, "shadowed", to.Shadowed.Value, "shadowed_source", to.Shadowed.Source)
		text += fmt.Sprintf("; the %s map says %s", to.Shadowed.Source, to.Shadowed.Value)
	}
	if to.Reason != "" {
		fields = append(fields, "reason", to.Reason)
	}
	log.Info("transition", fields...)
	metrics.Transition(from.Phase, to.Phase)
	if from.Phase != to.Phase {
		events.Transition(text)
	}
}
