// Package engine plays a scenario in an Env: it does the steps, keeps the
// record, and compares the two with what the scenario expects. It knows no
// target, and no test framework.
package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// play is one scenario while it runs.
type play struct {
	env      targets.Env
	scenario scenario.Scenario
	record   *history.History

	// sources feed the record; they live as long as ctx.
	ctx     context.Context
	sources sync.WaitGroup

	runners   map[string]*started
	submitted []string // ids of all tasks
	marks     map[string]int
}

// started is a runner that was started at least once.
type started struct {
	targets.Runner
	process int
}

// Run plays the scenario and returns what was not as expected, with the line
// of the file. It ends with the scenario's timeout. The Env is left as it is,
// for a look at it and for Close.
func Run(ctx context.Context, env targets.Env, s scenario.Scenario, record *history.History) error {
	limit := Stretch(time.Duration(s.Timeout))
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the scenario's timeout of %s is over", limit))
	p := &play{
		env: env, scenario: s, record: record, ctx: ctx,
		runners: make(map[string]*started), marks: make(map[string]int),
	}
	defer p.sources.Wait()
	defer cancel()

	if err := p.playAll(); err != nil {
		// A rule that was broken may well be the reason.
		return errors.Join(err, rules(s, record.Entries()))
	}
	return p.do(0, "invariants", func() error {
		if err := p.invariants(); err != nil {
			return fmt.Errorf("%s: after the last step: %w", s.Location(), err)
		}
		return nil
	})
}

// playAll brings about what there is at the beginning, and does the steps.
func (p *play) playAll() error {
	s := p.scenario
	err := p.do(0, "prepare", func() error {
		if err := p.prepare(); err != nil {
			return fmt.Errorf("%s: %w", s.Location(), err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, step := range s.Steps {
		err := p.do(step.Line, detail(step), func() error {
			if err := p.step(step); err != nil {
				return fmt.Errorf("%s:%d: %s: %w", s.Path, step.Line, describe(step), err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// do does one thing and notes in the record when it begins and how it ends.
func (p *play) do(line int, text string, what func() error) error {
	p.record.Add(history.Entry{Step: &history.Step{Line: line, Text: text}})
	end := &history.Step{Line: line, Text: text, Ended: true}
	err := what()
	if err != nil {
		end.Error = err.Error()
	}
	p.record.Add(history.Entry{Step: end})
	return err
}

// NodeMaps returns the names of the node maps of a scenario's runners.
func NodeMaps(s scenario.Scenario) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.Runners)) {
		if m := nodeMap(name, s.Runners[name]); m != "" {
			names = append(names, m)
		}
	}
	return names
}

// nodeMap is the name of a runner's node map, as the contract has it.
func nodeMap(name string, r scenario.Runner) string {
	switch r.Hostname {
	case "":
		return name
	case scenario.NoHost:
		return ""
	}
	return r.Hostname
}

// prepare brings about what there is before the first step: maps, tasks and
// runners, in that order.
func (p *play) prepare() error {
	if err := p.watchMaps(); err != nil {
		return err
	}
	p.source("journal", func(ctx context.Context) error {
		return p.env.Journal(ctx, func(n targets.TaskNote) { p.record.Add(history.Entry{Note: &n}) })
	})
	if err := p.applyAll(p.scenario.Maps, p.apply); err != nil {
		return err
	}
	for _, s := range p.scenario.Tasks {
		if err := p.submit(s); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.scenario.Runners)) {
		if p.scenario.Runners[name].Delayed {
			continue
		}
		if err := p.start(name); err != nil {
			return err
		}
	}
	return nil
}

// step does one step. The format allows exactly one field to be set.
func (p *play) step(s scenario.Step) error {
	switch {
	case s.Apply != nil:
		return p.applyAll(s.Apply, p.apply)
	case s.Replace != nil:
		return p.applyAll(s.Replace, p.replace)
	case s.Delete != nil:
		return each(s.Delete, p.delete)
	case s.RemoveKey != nil:
		return each(s.RemoveKey, p.removeKey)
	case s.Touch != nil:
		return each(s.Touch, p.touch)
	case s.Flip != nil:
		return p.flip(*s.Flip)
	case s.Crowd != nil:
		return p.crowd(*s.Crowd)
	case s.Manifest != nil:
		return p.manifest(*s.Manifest)
	case s.Admission:
		return p.bounded(clusterBudget, p.env.Admission)
	case s.Submit != nil:
		return p.submit(*s.Submit)
	case s.Release != nil:
		return each(s.Release, func(group string) error {
			return p.bounded(queueBudget, func(ctx context.Context) error { return p.env.Release(ctx, group) })
		})
	case s.Start != nil:
		return each(s.Start, p.start)
	case s.Signal != nil:
		return p.signal(s.Signal)
	case s.APIServer != "":
		return p.apiServer(s.APIServer)
	case s.Network != "":
		return p.network(s.Network)
	case s.Queue != "":
		return p.queue(s.Queue)
	case s.Permissions != "":
		return p.bounded(clusterBudget, func(ctx context.Context) error { return p.env.SetPermissions(ctx, s.Permissions) })
	case s.FakeGPU != nil:
		return p.fakeGPU(s.FakeGPU)
	case s.Mark != "":
		p.marks[s.Mark] = len(p.record.Entries())
		p.record.Add(history.Entry{Mark: s.Mark})
		return nil
	case s.Await != nil:
		return p.await(s.Await, awaitBudget(s.Await))
	case s.Expect != nil:
		return p.await(s.Expect, expectBudget)
	case s.Never != nil:
		return p.never(*s.Never)
	case s.Wait != nil:
		return p.pause(time.Duration(s.Wait.For))
	}
	return errors.New("the engine does not know this step")
}

// pause lets time pass; the scenario says why nothing better can be done.
func (p *play) pause(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

func each(subjects []string, do func(string) error) error {
	for _, s := range subjects {
		if err := do(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// mapName is the ConfigMap that a subject stands for.
func (p *play) mapName(subject string) string {
	if subject == scenario.Global {
		return api.GlobalMapName
	}
	return nodeMap(subject, p.scenario.Runners[subject])
}
