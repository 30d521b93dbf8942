package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// fault is a kind of fault. Those of a lane strike one after another, and the lanes
// beside one another.
type fault struct {
	name     string
	lane     string
	root     bool          // it needs the rights of root
	from, to time.Duration // how long it lasts
	// strike does it, waits, and undoes it, whatever ctx says: what it leaves is
	// not for the next one.
	strike func(ctx context.Context, a *Arena, h *hit) error
}

// hit is what a strike works on.
type hit struct {
	Strike
	runner *Runner
	gpu    string // set by the strike if it was about one
}

// last waits as long as the strike lasts.
func (h *hit) last(ctx context.Context) { wait(ctx, h.Lasts) }

// Where the queue can be.
const inDirectory, inServer = "spool", "postgres"

// faults are all kinds, by where the queue is.
var faults = map[string][]fault{
	inDirectory: slices.Concat(processFaults, diskFaults, steeringFaults, gpuFaults),
	inServer:    slices.Concat(processFaults, serverFaults, steeringFaults, gpuFaults),
}

// patience is how long a strike waits for its moment.
const patience = 4 * time.Second

// strike lets all faults of the plan strike, each when its share of the tasks has
// started and, if that comes soon, a task of its victim's kind runs.
func (a *Arena) strike(ctx context.Context, plan Plan, runners []*Runner, total int) error {
	kinds := map[string]fault{}
	for _, f := range slices.Concat(faults[inDirectory], faults[inServer]) {
		kinds[f.name] = f
	}
	lanes := map[string][]Strike{}
	for _, s := range plan.Strikes {
		lane := kinds[s.Kind].lane
		lanes[lane] = append(lanes[lane], s)
	}
	// What is struck is there once a task has begun, for which a busy machine may need long.
	if !a.notes.await(ctx, func(j *journal) bool { return len(j.started) > 0 }) {
		return nil
	}
	var all sync.WaitGroup
	problems := make(chan error, len(plan.Strikes))
	for _, strikes := range lanes {
		all.Go(func() {
			for _, s := range strikes {
				share := total * s.Number / len(plan.Strikes)
				if a.moment(ctx, share, s.Victim); ctx.Err() != nil {
					return
				}
				if err := a.one(ctx, kinds[s.Kind], &hit{Strike: s, runner: runners[s.Runner]}); err != nil {
					problems <- err
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-problems:
		return err
	default:
		return nil
	}
}

// moment waits until it is time for a strike.
func (a *Arena) moment(ctx context.Context, share int, victim string) {
	soon, cancel := context.WithTimeout(ctx, 5*patience)
	defer cancel()
	a.notes.await(soon, func(j *journal) bool { return len(j.started) >= share*9/10 })
	soon, cancel = context.WithTimeout(ctx, patience)
	defer cancel()
	kind := slices.IndexFunc(taskKinds, func(k taskKind) bool { return k.name == victim })
	a.notes.await(soon, func(j *journal) bool { return j.runs(taskKinds[kind]) })
}

// one lets one fault strike and notes it. It is in the record from its begin on.
func (a *Arena) one(ctx context.Context, f fault, h *hit) error {
	s := Struck{Strike: h.Strike, Begin: now(), End: 1<<63 - 1}
	a.mu.Lock()
	at := len(a.record.Struck)
	a.record.Struck = append(a.record.Struck, s)
	a.mu.Unlock()
	err := f.strike(ctx, a, h)
	if err != nil {
		err = fmt.Errorf("%s: %w", f.name, err)
	}
	s.End, s.GPU = now(), h.gpu
	a.mu.Lock()
	defer a.mu.Unlock()
	a.record.Struck[at] = s
	return err
}
