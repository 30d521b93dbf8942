package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"syscall"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func init() {
	add(scenario.Verb{Name: "signal", Doc: "Sends a signal to runners.", Need: scenario.NeedSignals}, signal.do)
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

func (s signal) do(p *play) error {
	return eachOf(s, func(name scenario.RunnerName, sig signalName) error {
		r := p.runners[string(name)]
		if r == nil {
			return fmt.Errorf("it was not started")
		}
		return p.bounded(runnerBudget, func(ctx context.Context) error { return r.Signal(ctx, signals[sig]) })
	})
}
