package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sync/errgroup"
)

// options are the flags.
type options struct {
	Seed      uint64   `env:"SEED" help:"Of the plan; 0 draws one."`
	Queue     string   `env:"QUEUE" enum:"spool,postgres,drawn" default:"drawn" help:"Where the tasks wait: ${enum}. The seed draws for the short form alone, and where all faults may strike; else it is a spool."`
	Short     bool     `help:"Take 2 minutes, and 5 at most."`
	Tasks     int      `help:"How many tasks, if not as many as the form has."`
	Strikes   int      `help:"How many faults, likewise."`
	Kinds     []string `help:"Only faults whose name begins so."`
	Runner    string   `default:"bin/runner" help:"The program that is tested."`
	Task      string   `default:"bin/chaos-task" help:"The program of the tasks."`
	NVML      string   `name:"nvml" default:"bin/libnvidia-ml.so.1" help:"The fake NVML."`
	Artifacts string   `default:"artifacts/chaos" help:"Where the record and the logs go if something is wrong."`
}

const runnerCount = 3

// The forms: how much, how long faults may go on to strike, and what may follow.
var (
	long      = Size{Tasks: 10_000, Strikes: 500, Runners: runnerCount}
	short     = Size{Tasks: 260, Strikes: 54, Runners: runnerCount}
	longTime  = 3 * time.Hour
	shortTime = 90 * time.Second
)

// settleTime is how long the rest of the work may take once nothing breaks any more.
// In a server the tasks of a runner that was killed wait before that for the end of
// its lease, which begins with the outages' end, and for a look of another; so the
// faults have less time.
const settleTime, leaseTime = 3 * time.Minute, 30 * time.Second

func main() {
	var o options
	kong.Parse(&o, kong.Description("Random tasks, random faults, and a checker that proves that nothing was lost."))
	// SIGHUP as well: what is ignored here would be ignored by the runners.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	size, limit, rest := long, longTime, settleTime
	if o.Short {
		size, limit = short, shortTime
	}
	for o.Seed == 0 {
		o.Seed = rand.Uint64N(1_000_000)
	}
	if o.Queue == "drawn" {
		o.Queue = inDirectory
		if o.Short && len(o.Kinds) == 0 && o.Seed%2 == 1 {
			o.Queue = inServer
		}
	}
	if o.Queue == inServer {
		limit, rest = limit-leaseTime, rest+2*leaseTime
		if !o.Short {
			size.Strikes += size.Strikes / 2 // fewer tasks run when one strikes
		}
	}
	size.Tasks, size.Strikes = cmp.Or(o.Tasks, size.Tasks), cmp.Or(o.Strikes, size.Strikes)
	list, skipped := chosen(o.Queue, o.Kinds, os.Getuid() == 0)
	if len(list) == 0 {
		return fmt.Errorf("no fault has a name that begins with %q", o.Kinds)
	}
	fmt.Printf("seed %d, queue %s\n", o.Seed, o.Queue)
	if len(skipped) > 0 {
		fmt.Printf("left out, because they need root: %s\n", strings.Join(skipped, ", "))
	}
	plan := NewPlan(o.Seed, size, list)
	arena, err := newArena(ctx, Programs{Runner: o.Runner, Task: o.Task, NVML: o.NVML}, o.Queue)
	defer func() {
		if arena.dir != "" {
			err = errors.Join(err, arena.Close(context.WithoutCancel(ctx)))
		}
	}()
	if err != nil {
		return err
	}
	if err := arena.play(ctx, plan, limit, rest); err != nil {
		return errors.Join(err, arena.keep(o.Artifacts))
	}
	whole := !o.Short && len(o.Kinds) == 0 && o.Tasks == 0 && o.Strikes == 0
	empty, share := report(os.Stdout, &arena.record, plan)
	problems := Check(&arena.record)
	for _, p := range problems {
		fmt.Printf("%s: %s\n", p.Clause, p.Text)
	}
	if len(problems) > 0 {
		return errors.Join(fmt.Errorf("%d problems; the record and the logs are in %s; again: %s", len(problems), o.Artifacts, o.again()),
			arena.keep(o.Artifacts))
	}
	if whole && (len(empty) > 0 || share < calm) {
		return fmt.Errorf("the plan was too calm: %.0f %% of the tasks ran when a fault struck; no task of the kind ran at %s", 100*share, strings.Join(empty, ", "))
	}
	fmt.Println("nothing lost")
	return nil
}

// again is the command that plays the same plan: its form and its kinds are part of it.
func (o options) again() string {
	words := []string{"make", "chaos"}
	if o.Short {
		words = append(words, "SHORT=1")
	}
	words = append(words, "QUEUE="+o.Queue, fmt.Sprintf("SEED=%d", o.Seed))
	if len(o.Kinds) > 0 {
		words = append(words, "KINDS="+strings.Join(o.Kinds, ","))
	}
	return strings.Join(words, " ")
}

// play plays the plan to its end.
func (a *Arena) play(ctx context.Context, plan Plan, limit, rest time.Duration) error {
	running, end := context.WithCancel(ctx)
	defer end()
	parts, running := errgroup.WithContext(running)
	var runners []*Runner
	for i := range runnerCount {
		r := &Runner{arena: a, name: fmt.Sprintf("chaos-%d", i)}
		runners = append(runners, r)
		parts.Go(func() error { return r.keep(running) })
	}
	parts.Go(func() error {
		defer end()
		striking, calm := context.WithTimeout(running, limit)
		defer calm()
		both, striking := errgroup.WithContext(striking)
		both.Go(func() error { return a.feed(striking, plan.Tasks) })
		both.Go(func() error { return a.strike(striking, plan, runners, len(plan.Tasks)) })
		if err := both.Wait(); err != nil {
			return err
		}
		// A GPU that was sick is so for a runner until it starts again.
		a.end(runners)
		settling, done := context.WithTimeout(running, rest)
		defer done()
		a.settle(settling, runners)
		return nil
	})
	<-running.Done()
	a.end(runners)
	if err := parts.Wait(); err != nil {
		return err
	}
	return errors.Join(ctx.Err(), a.sweep(ctx, runners), a.collect(ctx))
}

// feed submits tasks so that there are always some that wait, and not many.
func (a *Arena) feed(ctx context.Context, tasks []Task) error {
	const batch, waiting = 20, 3 * runnerCount * slots
	for at := 0; at < len(tasks); at += batch {
		if !a.notes.await(ctx, func(j *journal) bool { return len(j.started) >= at-waiting }) {
			return nil // the time is over; what was not submitted is not in the record
		}
		if err := a.submit(context.WithoutCancel(ctx), tasks[at:min(at+batch, len(tasks))]); err != nil {
			return err
		}
	}
	return nil
}

// keep copies the record and the logs to where a person finds them.
func (a *Arena) keep(dir string) error {
	err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755))
	text, failed := json.MarshalIndent(a.record, "", " ")
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(dir+"/record.json", text, 0o644), os.CopyFS(dir+"/logs", os.DirFS(a.path("logs"))))
}
