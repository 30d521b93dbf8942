package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

func init() {
	add(scenario.Term{Name: "signal", Doc: "Sends a signal to runners.", Need: scenario.NeedSignals}, signal.do)
	add(scenario.Term{Name: "start", Doc: "Starts delayed runners, and those that ended, under their old name."}, start.do)
}

type start []scenario.RunnerName

// Check notes for the file which runners are started.
func (s start) Check(c *scenario.Checker, _ string) {
	for _, name := range s {
		c.Once("start " + string(name))
	}
}

func (s start) do(ctx context.Context, p *play) error {
	return each(s, func(name scenario.RunnerName) error { return p.start(ctx, string(name)) })
}

// start starts a runner, the first time or again.
func (p *play) start(ctx context.Context, name string) error {
	tells := history.Process{Record: p.record, Runner: name, Number: 1}
	if before := p.runners[name]; before != nil {
		tells.Number += before.tells.Number
		// The record of the process before must be complete first.
		if err := p.record.Wait(ctx, func(s *history.Summary) bool { return s.Runner(name).Exit != nil }); err != nil {
			return fmt.Errorf("its last process has not ended: %w", err)
		}
	}
	tells.Add(history.Entry{Start: true})
	r, err := p.env.StartRunner(ctx, targets.RunnerSpec{Name: name, Runner: p.scenario.Runners[name]}, tells)
	if err != nil {
		return err
	}
	p.runners[name] = &runner{r, tells}
	return nil
}

type (
	signal     map[scenario.RunnerName]signalName
	signalName string
)

var signals = map[signalName]syscall.Signal{
	"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "HUP": syscall.SIGHUP, "PIPE": syscall.SIGPIPE,
	"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "ALRM": syscall.SIGALRM, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT,
}

func (signalName) Words() []string { return scenario.Words(slices.Sorted(maps.Keys(signals))...) }

func (s signal) do(ctx context.Context, p *play) error {
	return eachOf(s, func(name scenario.RunnerName, sig signalName) error {
		r := p.runners[string(name)]
		if r == nil {
			return errors.New("it was not started")
		}
		return r.Signal(ctx, signals[sig])
	})
}
