package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

const gpusEach = 4

// demo is two runners, a stream of tasks, and a table of what they do.
type demo struct {
	env     targets.Env
	shell   *shell
	runners map[string]targets.Runner

	mu        sync.Mutex
	statuses  map[string]api.Status
	exits     map[string]targets.Exit
	submitted int
	changed   chan struct{} // closed and replaced with each change
}

func newDemo(env targets.Env, shell *shell) *demo {
	return &demo{
		env: env, shell: shell,
		runners:  make(map[string]targets.Runner),
		statuses: make(map[string]api.Status),
		exits:    make(map[string]targets.Exit),
		changed:  make(chan struct{}),
	}
}

// update changes what is known and wakes those who wait for it.
func (d *demo) update(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
	close(d.changed)
	d.changed = make(chan struct{})
}

// errEnded ends the parts of the demo without being a failure.
var errEnded = errors.New("the demo has ended")

// run shows the runners until ctx ends, or the play does.
func (d *demo) run(ctx context.Context, play bool) error {
	if _, err := d.shell.run(ctx, "kubectl create configmap "+api.GlobalMapName+" --from-literal=STATE=Running"); err != nil {
		return err
	}
	parts, ctx := errgroup.WithContext(ctx)
	for _, name := range names {
		spec := targets.RunnerSpec{Name: name, Runner: scenario.Runner{
			GPUs: gpusEach, Slots: gpusEach, Profile: "H100-80GB", Flags: map[scenario.Flag]string{"settle": "2s"},
		}}
		r, err := d.env.StartRunner(ctx, spec)
		if err != nil {
			return err
		}
		d.runners[name] = r
		parts.Go(func() error {
			return r.Watch(ctx, func(s api.Status) { d.update(func() { d.statuses[name] = s }) })
		})
		parts.Go(func() error {
			exit, err := r.Wait(ctx)
			if err == nil {
				d.update(func() { d.exits[name] = exit })
			}
			return err
		})
	}
	stream, stopStream := context.WithCancel(ctx)
	defer stopStream()
	parts.Go(func() error { return d.submit(stream) })
	d.instructions(play)
	table := newTable(d)
	parts.Go(func() error { return table.show(ctx) })
	if play {
		parts.Go(func() error {
			if err := d.play(ctx, table, stopStream); err != nil {
				return err
			}
			return errEnded
		})
	}
	err := parts.Wait()
	if errors.Is(err, errEnded) {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted")
	}
	return err
}

// submit puts a small task into the queue, again and again, while not too many
// of them wait.
func (d *demo) submit(ctx context.Context) error {
	const (
		every   = 700 * time.Millisecond
		waiting = 12 // enough to keep both runners busy
	)
	random := rand.New(rand.NewPCG(1, 1))
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 1; ; {
		enough, err := false, error(nil)
		if n > 1 { // the first submit makes the queue
			var contents api.QueueContents
			contents, err = d.env.Queue(ctx)
			enough = len(contents.Ready) >= waiting
		}
		if err == nil && !enough {
			task := api.Task{
				ID: fmt.Sprintf("task-%d", n), Command: "sleep", Args: []string{fmt.Sprintf("%.1f", 1+2*random.Float64())},
				Resources: api.Resources{GPUs: 1 + random.IntN(2)},
			}
			if err = d.env.Submit(ctx, []api.Task{task}); err == nil {
				d.update(func() { d.submitted = n })
				n++
			}
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// await waits until holds is true for what is known.
func (d *demo) await(ctx context.Context, what string, holds func() bool) error {
	const limit = 2 * time.Minute
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s did not happen within %s", what, limit))
	defer cancel()
	for {
		d.mu.Lock()
		ok, changed := holds(), d.changed
		d.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// instructions are the lines for another terminal.
func (d *demo) instructions(play bool) {
	if play {
		return
	}
	fmt.Printf("\nIn another terminal:\n\n")
	for _, line := range d.shell.exports() {
		fmt.Println("  " + line)
	}
	fmt.Println()
	for _, s := range script {
		if s.line != "" && !s.playOnly {
			fmt.Printf("  %s\n      # %s\n", s.line, s.brief)
		}
	}
	fmt.Printf("\nCtrl-C ends the demo and cleans up. `make run DEMO=1` types these lines itself.\n\n")
}
