package lifecycle

import (
	"context"
	"log/slog"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
)

// freshLimit bounds the fresh read before the exit: a runner that has nothing
// left to do does not wait longer for an API server that does not answer (R6).
const freshLimit = 30 * time.Second

// Loop is the single goroutine that owns the Progress.
type Loop struct {
	Machine Machine
	Log     *slog.Logger
	Gate    *gate.Gate

	// Maps carries the newest snapshot of the two maps.
	Maps <-chan Snapshot
	// Signals carries termination signals.
	Signals <-chan os.Signal
	// ReadFresh reads both maps directly; it retries until ctx ends.
	ReadFresh func(ctx context.Context) (Snapshot, error)
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
		past   Progress
		in     Input
		last   = Orders{Report: Report{Phase: api.PhaseUnknown}}
		reads  sync.WaitGroup
		answer <-chan FreshRead // of the fresh read in progress, nil for none
	)
	defer reads.Wait()
	endRead := func() {}
	defer func() { endRead() }()

	for {
		var devices <-chan struct{}
		if l.Devices != nil {
			devices = l.Devices().Done()
		}
		in.Now = time.Now()
		in.Gate = l.Gate.Snapshot()
		next, orders := l.Machine.Step(past, in)
		if l.Gate.Set(orders.Open) {
			// What was read before the gate moved may be stale: a task could
			// have started just before it closed.
			in.Gate = l.Gate.Snapshot()
			next, orders = l.Machine.Step(past, in)
		}
		past, in.Fresh = next, nil

		if orders.Stop > last.Stop {
			l.Stop(orders.Stop)
		}
		l.tell(last, orders, in, past.Memory)
		last = orders
		if orders.Exit != nil {
			return *orders.Exit, nil
		}

		if orders.Check && answer == nil {
			answer, endRead = l.readAfresh(ctx, &reads)
		} else if !orders.Check {
			endRead() // what it would say is no longer asked for
			answer = nil
		}
		var wake <-chan time.Time
		if !orders.Wake.IsZero() {
			wake = time.After(time.Until(orders.Wake))
		}

		select {
		case in.Maps = <-l.Maps:
		case <-l.Gate.Changed():
		case <-devices:
		case <-wake:
		case fresh := <-answer:
			answer, in.Fresh = nil, &fresh
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

// readAfresh begins a fresh read of both maps.
func (l *Loop) readAfresh(ctx context.Context, reads *sync.WaitGroup) (<-chan FreshRead, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, freshLimit)
	answer := make(chan FreshRead, 1)
	began := time.Now()
	reads.Go(func() {
		maps, err := l.ReadFresh(ctx)
		answer <- FreshRead{maps, began, err}
	})
	return answer, cancel
}

// tell publishes what is so, and speaks up about what changed.
func (l *Loop) tell(before, now Orders, in Input, memory Memory) {
	l.Publish(now.Report, in.Maps, memory, in.Gate)
	from, to := before.Report, now.Report
	if from.Phase != to.Phase || from.Target != to.Target || from.Source != to.Source || from.Effective != to.Effective ||
		from.Notes != to.Notes || !reflect.DeepEqual(from.Shadowed, to.Shadowed) {
		l.Transition(from, to)
	}
	if p := to.GlobalProblem; p != nil && (from.GlobalProblem == nil || *from.GlobalProblem != *p) {
		l.Problem(in.Maps.Global, *p)
	}
	if p := to.NodeProblem; p != nil && (from.NodeProblem == nil || *from.NodeProblem != *p) {
		l.Problem(in.Maps.Node, *p)
	}
}
