package main

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/studioml/studio-go-runner/runner/api"
)

// act is one line of the play.
type act struct {
	brief    string // what the line does, for the instructions
	explain  string // what to look at, for the play
	line     string
	playOnly bool
	// until is what must become so before the next act.
	until func(d *demo) bool
}

func patch(name, state string) string {
	return fmt.Sprintf(`kubectl patch configmap %s --type=merge -p '{"data":{"STATE":"%s"}}'`, name, state)
}

// script is the play, and most of it the instructions.
var script = []act{
	{
		explain: "The global map says Running. Both runners take tasks and give each whole GPUs.",
		until:   func(d *demo) bool { return d.started("runner-a", 3) && d.started("runner-b", 3) },
	},
	{
		brief:   "drain one runner: its node map outweighs the global map",
		explain: "A node map is made for runner-a. It finishes what it runs, takes nothing more and waits. runner-b goes on.",
		line:    "kubectl create configmap runner-a --from-literal=STATE=DrainAndSuspend",
		until: func(d *demo) bool {
			return d.phase("runner-a", api.PhaseSuspended) && d.phase("runner-b", api.PhaseRunning)
		},
	},
	{
		brief:   "drain all runners that have no node map of their own",
		explain: "Now the global map says so, too: runner-b drains. Tasks pile up in the queue and none is lost.",
		line:    patch(api.GlobalMapName, "DrainAndSuspend"),
		until:   func(d *demo) bool { return d.phase("runner-b", api.PhaseSuspended) },
	},
	{
		brief:   "exempt one runner from the global drain",
		explain: "runner-a's node map says Running: that exempts it from the global drain, which it reports as shadowed.",
		line:    patch("runner-a", "Running"),
		until:   func(d *demo) bool { return d.phase("runner-a", api.PhaseRunning) },
	},
	{
		explain:  "A typo changes nothing: the last valid value of that map stays in force, and the runner says what is wrong.",
		line:     patch(api.GlobalMapName, "Runing"),
		playOnly: true,
		until:    func(d *demo) bool { return strings.Contains(d.problem("runner-b"), "did you mean Running?") },
	},
	{
		brief:   "let all runners run again",
		explain: "All resume, in the same processes.",
		line:    patch(api.GlobalMapName, "Running"),
		until:   func(d *demo) bool { return d.phase("runner-b", api.PhaseRunning) },
	},
	{
		brief:   "let the global map count for that runner again",
		explain: "Without its node map, runner-a follows the global map again.",
		line:    "kubectl delete configmap runner-a",
		until:   func(d *demo) bool { return d.statuses["runner-a"].Source == api.SourceGlobal },
	},
	{
		brief:   "finish all work and exit",
		explain: "DrainAndTerminate: both finish what they run, make sure that it still stands, and exit with 0.",
		line:    patch(api.GlobalMapName, "DrainAndTerminate"),
		until:   func(d *demo) bool { return len(d.exits) == len(names) },
	},
}

// The predicates of the script are called with the lock held.

func (d *demo) phase(name string, p api.Phase) bool { return d.statuses[name].Phase == p }

func (d *demo) started(name string, n int) bool { return d.statuses[name].Tasks.Started >= n }

func (d *demo) problem(name string) string {
	if m := d.statuses[name].Maps.Global; m != nil {
		return m.Problem
	}
	return ""
}

// play types the lines of the script, waits for what each does, and accounts
// for every task at the end.
func (d *demo) play(ctx context.Context, t *table, stopStream func()) error {
	for _, s := range script {
		t.say("\n# " + s.explain)
		if s.line != "" {
			t.say("$ " + s.line)
			output, err := d.shell.run(ctx, s.line)
			if err != nil {
				return err
			}
			t.say(strings.TrimSpace(output))
		}
		if err := d.await(ctx, "the effect of this", func() bool { return s.until(d) }); err != nil {
			return err
		}
	}
	stopStream()
	return d.account(ctx, t)
}

// account compares what was submitted with what became of it.
func (d *demo) account(ctx context.Context, t *table) error {
	contents, err := d.env.Queue(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	submitted, exits := d.submitted, maps.Clone(d.exits)
	d.mu.Unlock()
	for _, name := range names {
		exit := exits[name]
		t.say(fmt.Sprintf("%s: exit code %d, %q", name, exit.Code, exit.Message))
		if exit.Code != api.ExitDrained {
			return fmt.Errorf("%s ended with exit code %d", name, exit.Code)
		}
	}
	finished, left := len(contents.Finished), len(contents.Ready)+len(contents.Claimed)
	t.say(fmt.Sprintf("\nTasks: %d submitted = %d finished + %d still in the queue + %d given up.",
		submitted, finished, left, len(contents.Dead)))
	if submitted != finished+left || len(contents.Claimed) > 0 || len(contents.Dead) > 0 {
		return fmt.Errorf("the tasks do not add up, or some are claimed or given up: %+v", contents)
	}
	t.say("Every runner drained and every task is accounted for.")
	return nil
}
