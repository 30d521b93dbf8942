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
}

var areas = []area{
	{"runner/internal/lifecycle", []string{"runner"}, "area: containsAny {drain, precedence, start, transitions, values}"},
	{"runner/internal/gate", []string{"runner/internal/scheduler", "runner/internal/lifecycle"}, "area: containsAny {drain}"},
	{"runner/internal/statemap", []string{"runner"}, "area: containsAny {apiserver, start, values}"},
	{"runner/internal/kube", []string{"runner/internal/statemap", "runner"}, "area: containsAny {apiserver, start}"},
	{"runner/internal/scheduler", []string{"runner"}, "area: containsAny {drain, gpu}"},
	{"runner/internal/queue/spool", []string{"runner/internal/queue TestContract/spool", "runner TestCommandLine|TestOwners/spool"}, "area: containsAny {drain}"},
	{"runner/internal/gpu", []string{"runner/internal/scheduler", "runner"}, "area: containsAny {gpu}"},
	{"runner/internal/task", []string{"runner"}, "area: containsAny {drain, gpu}"},
	{"runner/internal/supervise", []string{"runner/internal/task", "runner"}, "area: containsAny {drain}"},
}

// flags are the command line.
type flags struct {
	Packages  int            `help:"Play faults of so many packages, chosen by the seed. 0 plays all."`
	Time      time.Duration  `help:"Begin with no fault of a package after this time. 0 plays all."`
	Seed      uint64         `help:"Chooses packages, and the order of faults."`
	Only      *regexp.Regexp `help:"Play only faults whose name in accepted.yaml matches this regular expression." default:""`
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

func (f *flags) run(ctx context.Context) (err error) {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	var all []*fault
	files := make(map[string]map[string]string) // changed ones by package
	for _, a := range areas {
		faults, changed, err := breakPackage(root, a.pkg)
		if err != nil {
			return err
		}
		all, files[a.pkg] = append(all, faults...), changed
	}
	if err := accept(filepath.Join(root, "e2e", "mutants", "accepted.yaml"), all); err != nil {
		return err
	}
	all = f.choose(all)
	if f.List {
		for _, c := range all {
			fmt.Println(c)
		}
		return nil
	}
	if err := checkAlone(ctx); err != nil {
		return err
	}
	for _, a := range areas {
		if chosen := of(a, all); len(chosen) > 0 {
			if err := f.play(ctx, root, a, chosen, files[a.pkg]); err != nil {
				return err
			}
		}
	}
	return report(os.Stdout, all)
}

func of(a area, all []*fault) []*fault {
	return slices.DeleteFunc(slices.Clone(all), func(f *fault) bool { return f.pkg != a.pkg })
}

// choose returns the faults that are asked for; with a number of packages, in the
// order of the seed.
func (f *flags) choose(all []*fault) (chosen []*fault) {
	random, packages := rand.New(rand.NewPCG(f.Seed, 0)), f.Packages
	for _, i := range random.Perm(len(areas)) {
		some := slices.DeleteFunc(of(areas[i], all), func(c *fault) bool { return f.Only != nil && !f.Only.MatchString(c.key) })
		if len(some) == 0 {
			continue
		}
		if random.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] }); f.Packages > 0 {
			if packages--; packages < 0 {
				return chosen
			}
		}
		chosen = append(chosen, some...)
	}
	return chosen
}

// play plays faults of one area against one suite after the other, as long as
// they survive. Its own tests come twice, because some notice a fault by chance.
// Accepted faults are played against these alone.
func (f *flags) play(ctx context.Context, root string, a area, chosen []*fault, files map[string]string) (err error) {
	work, err := tempDir("", "mutants-*", 0o711)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	overlay, err := writeOverlay(work, files)
	if err != nil {
		return err
	}
	suites := make(map[string]*suite)
	for i, pkg := range append([]string{a.pkg, a.pkg}, a.more...) {
		alive := slices.DeleteFunc(slices.Clone(chosen), func(c *fault) bool {
			return i > 0 && (c.verdict != survived || c.reason != "")
		})
		if len(alive) == 0 {
			break
		}
		if suites[pkg] == nil {
			if suites[pkg], err = buildSuite(ctx, root, work, overlay, pkg); err != nil {
				return err
			}
		}
		var tests errgroup.Group
		tests.SetLimit(2 * runtime.NumCPU()) // many only wait
		for begun := time.Now(); len(alive) > 0 && ctx.Err() == nil; alive = alive[1:] {
			if i == 0 && f.Time > 0 && time.Since(begun) > f.Time {
				break
			}
			c := alive[0]
			tests.Go(func() error { c.verdict = suites[pkg].play(ctx, c.number); return nil })
		}
		_ = tests.Wait()
	}
	for _, c := range chosen {
		if f.Scenarios && c.verdict == survived && c.reason == "" {
			c.verdict = scenarios(ctx, root, work, overlay, a.labels, c.number)
		}
	}
	return ctx.Err()
}
