package lifecycle

import (
	"context"
	"log/slog"
	"os"
	"reflect"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
)

// freshLimit bounds the fresh read before the exit: a runner that has nothing
// left to do does not wait longer for an API server that does not answer (R6).
const freshLimit = 30 * time.Second

// Loop is the single goroutine that owns the State.
type Loop struct {
	Machine Machine
	Log     *slog.Logger
	Gate    *gate.Gate

	// Maps carries the newest snapshot of the two maps.
	Maps <-chan Snapshot
	// Signals carries termination signals.
	Signals <-chan os.Signal
	// Fresh reads both maps directly; it retries until ctx ends.
	Fresh func(ctx context.Context) (Snapshot, error)
	// Stop stops the running tasks; it is called once for each increase.
	Stop func(Stop)
	// Publish is told what is so after every step.
	Publish func(Report, Snapshot, Memory, gate.Snapshot)
	// Devices returns a context that ends when Publish has something else to
	// show of the GPUs. nil means never.
	Devices func() context.Context
	// Transition is told each change of the phase or of what is behind it.
	Transition func(from, to Report)
	// Problem is told when a map starts to have a problem.
	Problem func(view View, problem Problem)
}

// Run runs until the lifecycle orders an exit, or ctx ends.
func (l *Loop) Run(ctx context.Context) (Exit, error) {
	var (
		state   State
		in      Input
		last    Orders
		stopped Stop
	)
	last.Report.Phase = api.PhaseUnknown
	timer := time.NewTimer(0)
	defer timer.Stop()
	var check *freshRead // the one in progress, nil for none
	defer func() { check.abandon() }()

	for {
		var devices <-chan struct{}
		if l.Devices != nil {
			devices = l.Devices().Done()
		}
		in.Now = time.Now()
		in.Gate = l.Gate.Snapshot()
		next, orders := l.Machine.Step(state, in)
		if l.Gate.Set(orders.Open) {
			// What was read before the gate moved may be stale: a task could
			// have started just before it closed.
			in.Gate = l.Gate.Snapshot()
			next, orders = l.Machine.Step(state, in)
		}
		state, in.Fresh = next, nil

		if orders.Stop > stopped {
			l.Stop(orders.Stop)
		}
		stopped = orders.Stop
		l.tell(last, orders, in, state.Memory)
		last = orders
		if orders.Exit != nil {
			return *orders.Exit, nil
		}

		if orders.Check && check == nil {
			check = l.startFreshRead(ctx)
		} else if !orders.Check {
			check.abandon() // what it would say is no longer asked for
			check = nil
		}
		timer.Stop()
		if !orders.Wake.IsZero() {
			timer.Reset(time.Until(orders.Wake))
		}

		select {
		case in.Maps = <-l.Maps:
		case <-l.Gate.Changed():
		case <-devices:
		case <-timer.C:
		case f := <-check.answered():
			check.abandon()
			check, in.Fresh = nil, &f
		case sig := <-l.Signals:
			in.signal(time.Now())
			l.Log.Info("signal received", "signal", sig.String(), "count", in.Signals)
		case <-ctx.Done():
			return Exit{}, ctx.Err()
		}
	}
}

// signal counts a termination signal, unless it is the first one once more.
func (in *Input) signal(now time.Time) {
	if in.Signals > 0 && now.Before(in.FirstSignal.Add(sameSignal)) {
		return
	}
	in.Signals++
	in.LastSignal = now
	if in.Signals == 1 {
		in.FirstSignal = now
	}
}

// freshRead is a fresh read of both maps in progress. A nil freshRead is none.
type freshRead struct {
	cancel context.CancelFunc
	answer chan Fresh
	done   chan struct{}
}

func (l *Loop) startFreshRead(ctx context.Context) *freshRead {
	ctx, cancel := context.WithTimeout(ctx, freshLimit)
	r := &freshRead{cancel: cancel, answer: make(chan Fresh, 1), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		maps, err := l.Fresh(ctx)
		r.answer <- Fresh{maps, err}
	}()
	return r
}

func (r *freshRead) answered() <-chan Fresh {
	if r == nil {
		return nil
	}
	return r.answer
}

// abandon ends the read, if it still goes on, and its goroutine.
func (r *freshRead) abandon() {
	if r != nil {
		r.cancel()
		<-r.done
	}
}

// tell publishes what is so, and speaks up about what changed.
func (l *Loop) tell(before, now Orders, in Input, memory Memory) {
	l.Publish(now.Report, in.Maps, memory, in.Gate)
	from, to := before.Report, now.Report
	if from.Phase != to.Phase || from.Target != to.Target || from.Source != to.Source || from.Effective != to.Effective ||
		!reflect.DeepEqual(from.Shadowed, to.Shadowed) {
		l.Transition(from, to)
	}
	if p := to.GlobalProblem; p != nil && (from.GlobalProblem == nil || *from.GlobalProblem != *p) {
		l.Problem(in.Maps.Global, *p)
	}
	if p := to.NodeProblem; p != nil && (from.NodeProblem == nil || *from.NodeProblem != *p) {
		l.Problem(in.Maps.Node, *p)
	}
}
