// Package mutants breaks the runner by a rule, one fault at a time, and says
// which faults no test notices: each of those is a rule that nobody tests.
//
//	bin/e2e mutants                  # every fault
//	bin/e2e mutants --packages=2 --time=15s --seed=7
//	bin/e2e mutants --only='gate.*Ticket' --scenarios
//
// The rule: a condition is negated, a comparison is shifted by one value, a
// statement without a result (a call, an assignment to a field, a defer) is left
// out. The faults of a package are built into its tests at once, each behind a
// switch, through an overlay: the checkout stays as it is. Each is then played by
// itself against the unit tests of its package, those that are quick, and if it
// survives against those of the packages that use it and, when asked, against scenarios.
//
// A fault that survives all of them fails the command, unless accepted.yaml has it
// with a reason.
package mutants

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sync/errgroup"
)

// area is a package to break, with what else shows that it is broken.
type area struct {
	pkg    string
	more   []string // packages with further tests, each with those that count if not all do
	labels string   // of scenarios

	root   string // of the repository
	faults []*fault
	files  map[string]string // the changed ones, by path
	work   string            // what is built is here
}

var areas = []*area{
	{pkg: "runner/internal/lifecycle", more: []string{"runner"},
		labels: "area: containsAny {drain, precedence, start, transitions, values}"},
	{pkg: "runner/internal/gate", more: []string{"runner/internal/scheduler", "runner/internal/lifecycle"},
		labels: "area: containsAny {drain}"},
	{pkg: "runner/internal/statemap", more: []string{"runner"}, labels: "area: containsAny {apiserver, start, values}"},
	{pkg: "runner/internal/kube", more: []string{"runner/internal/statemap", "runner"},
		labels: "area: containsAny {apiserver, start}"},
	{pkg: "runner/internal/scheduler", more: []string{"runner"}, labels: "area: containsAny {drain, gpu}"},
	{pkg: "runner/internal/queue/spool", more: []string{"runner/internal/queue TestContract/spool", "runner TestCommandLine|TestOwners/spool"},
		labels: "area: containsAny {drain}"},
	{pkg: "runner/internal/gpu", more: []string{"runner/internal/scheduler", "runner"},
		labels: "area: containsAny {gpu}"},
	{pkg: "runner/internal/task", more: []string{"runner"}, labels: "area: containsAny {drain, gpu}"},
	{pkg: "runner/internal/supervise", more: []string{"runner/internal/task", "runner"},
		labels: "area: containsAny {drain}"},
}

// Command plays faults.
type Command struct {
	Packages  int            `help:"Play faults of so many packages, chosen by the seed. 0 plays all."`
	Time      time.Duration  `help:"Begin with no fault of a package after this time. 0 plays all."`
	Seed      uint64         `help:"Chooses packages, and the order of faults."`
	Only      *regexp.Regexp `help:"Play only faults whose name in accepted.yaml matches this regular expression." default:"."`
	Scenarios bool           `help:"Play survivors against the scenarios of their area, on the embedded control plane."`
	List      bool           `help:"List the faults and play none."`
}

// Run says on standard output what became of them.
func (c Command) Run(ctx context.Context, k *kong.Context) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	for _, a := range areas {
		if err := a.breakIn(root); err != nil {
			return err
		}
	}
	if err := accept(filepath.Join(root, "e2e", "mutants", "accepted.yaml"), areas); err != nil {
		return err
	}
	chosen := c.choose(areas)
	if c.List {
		for _, a := range chosen {
			for _, f := range a.faults {
				fmt.Fprintln(k.Stdout, f)
			}
		}
		return nil
	}
	if err := checkAlone(ctx); err != nil {
		return err
	}
	for _, a := range chosen {
		if err := a.play(ctx, c); err != nil {
			return err
		}
	}
	return report(k.Stdout, chosen)
}

// choose returns the packages with the faults that are asked for, in the order of the
// seed, and leaves no others in them.
func (c Command) choose(areas []*area) (chosen []*area) {
	random := rand.New(rand.NewPCG(c.Seed, 0))
	for _, i := range random.Perm(len(areas)) {
		a := areas[i]
		a.faults = slices.DeleteFunc(a.faults, func(f *fault) bool { return !c.Only.MatchString(f.key) })
		random.Shuffle(len(a.faults), func(i, j int) { a.faults[i], a.faults[j] = a.faults[j], a.faults[i] })
		if len(a.faults) > 0 && (c.Packages == 0 || len(chosen) < c.Packages) {
			chosen = append(chosen, a)
		}
	}
	return chosen
}

// play plays the faults of an area against one suite after the other, as long as
// they survive. Its own tests come twice, because some notice a fault by chance.
// Accepted faults are played against these alone.
func (a *area) play(ctx context.Context, c Command) (err error) {
	if a.work, err = tempDir("", "mutants-*", 0o711); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(a.work)) }()
	if err := a.writeOverlay(); err != nil {
		return err
	}
	for i, which := range append([]string{a.pkg}, a.more...) {
		alive := slices.DeleteFunc(slices.Clone(a.faults), func(f *fault) bool { return i > 0 && !f.open() })
		if len(alive) == 0 {
			break
		}
		tests, err := a.buildSuite(ctx, which)
		if err != nil {
			return err
		}
		var playing errgroup.Group
		playing.SetLimit(2 * runtime.NumCPU()) // many only wait
		begun := time.Now()
		for _, f := range alive {
			if ctx.Err() != nil || i == 0 && c.Time > 0 && time.Since(begun) > c.Time {
				break
			}
			playing.Go(func() error {
				if f.verdict, _ = tests.play(ctx, f.number); i == 0 && f.open() {
					f.verdict, _ = tests.play(ctx, f.number)
				}
				return nil
			})
		}
		_ = playing.Wait()
	}
	for _, f := range a.faults {
		if c.Scenarios && f.open() {
			f.verdict = a.scenarios(ctx, f.number)
		}
	}
	return ctx.Err()
}
