// Command mutants breaks the runner by a rule, one fault at a time, and says
// which faults no test notices: each of those is a rule that nobody tests.
//
//	go run ./e2e/mutants                  # every fault
//	go run ./e2e/mutants --packages=2 --time=15s --seed=7
//	go run ./e2e/mutants --only='gate.*Ticket' --scenarios
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
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"syscall"
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
	{pkg: "runner/internal/lifecycle", more: []string{"runner"}, labels: "area: containsAny {drain, precedence, start, transitions, values}"},
	{pkg: "runner/internal/gate", more: []string{"runner/internal/scheduler", "runner/internal/lifecycle"}, labels: "area: containsAny {drain}"},
	{pkg: "runner/internal/statemap", more: []string{"runner"}, labels: "area: containsAny {apiserver, start, values}"},
	{pkg: "runner/internal/kube", more: []string{"runner/internal/statemap", "runner"}, labels: "area: containsAny {apiserver, start}"},
	{pkg: "runner/internal/scheduler", more: []string{"runner"}, labels: "area: containsAny {drain, gpu}"},
	{pkg: "runner/internal/queue/spool", more: []string{"runner/internal/queue TestContract/spool", "runner TestCommandLine|TestOwners/spool"}, labels: "area: containsAny {drain}"},
	{pkg: "runner/internal/gpu", more: []string{"runner/internal/scheduler", "runner"}, labels: "area: containsAny {gpu}"},
	{pkg: "runner/internal/task", more: []string{"runner"}, labels: "area: containsAny {drain, gpu}"},
	{pkg: "runner/internal/supervise", more: []string{"runner/internal/task", "runner"}, labels: "area: containsAny {drain}"},
}

// flags are the command line.
type flags struct {
	Packages  int            `help:"Play faults of so many packages, chosen by the seed. 0 plays all."`
	Time      time.Duration  `help:"Begin with no fault of a package after this time. 0 plays all."`
	Seed      uint64         `help:"Chooses packages, and the order of faults."`
	Only      *regexp.Regexp `help:"Play only faults whose name in accepted.yaml matches this regular expression." default:"."`
	Scenarios bool           `help:"Play survivors against the scenarios of their area, on the embedded control plane."`
	List      bool           `help:"List the faults and play none."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var f flags
	kong.Parse(&f, kong.Name("mutants"), kong.Description("Break the runner by a rule, one fault at a time, and list the faults that no test notices."))
	if err := f.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		stop()
		os.Exit(1)
	}
}

func (f *flags) run(ctx context.Context) error {
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
	chosen := f.choose(areas)
	if f.List {
		for _, a := range chosen {
			for _, c := range a.faults {
				fmt.Println(c)
			}
		}
		return nil
	}
	if err := checkAlone(ctx); err != nil {
		return err
	}
	for _, a := range chosen {
		if err := a.play(ctx, f); err != nil {
			return err
		}
	}
	return report(os.Stdout, chosen)
}

// choose returns the packages with the faults that are asked for, in the order of the
// seed, and leaves no others in them.
func (f *flags) choose(areas []*area) (chosen []*area) {
	random := rand.New(rand.NewPCG(f.Seed, 0))
	for _, i := range random.Perm(len(areas)) {
		a := areas[i]
		a.faults = slices.DeleteFunc(a.faults, func(c *fault) bool { return !f.Only.MatchString(c.key) })
		random.Shuffle(len(a.faults), func(i, j int) { a.faults[i], a.faults[j] = a.faults[j], a.faults[i] })
		if len(a.faults) > 0 && (f.Packages == 0 || len(chosen) < f.Packages) {
			chosen = append(chosen, a)
		}
	}
	return chosen
}

// play plays the faults of an area against one suite after the other, as long as
// they survive. Its own tests come twice, because some notice a fault by chance.
// Accepted faults are played against these alone.
func (a *area) play(ctx context.Context, f *flags) (err error) {
	if a.work, err = tempDir("", "mutants-*", 0o711); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(a.work)) }()
	if err := a.writeOverlay(); err != nil {
		return err
	}
	for i, which := range append([]string{a.pkg}, a.more...) {
		alive := slices.DeleteFunc(slices.Clone(a.faults), func(c *fault) bool { return i > 0 && !c.open() })
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
		for _, c := range alive {
			if ctx.Err() != nil || i == 0 && f.Time > 0 && time.Since(begun) > f.Time {
				break
			}
			playing.Go(func() error {
				if c.verdict, _ = tests.play(ctx, c.number); i == 0 && c.open() {
					c.verdict, _ = tests.play(ctx, c.number)
				}
				return nil
			})
		}
		_ = playing.Wait()
	}
	for _, c := range a.faults {
		if f.Scenarios && c.open() {
			c.verdict = a.scenarios(ctx, c.number)
		}
	}
	return ctx.Err()
}
