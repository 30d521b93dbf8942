// Package mutants breaks the runner by a rule, one fault at a time, and says
// which faults no test notices: each of those is a rule that nobody tests.
//
//	bin/e2e mutants                  # every fault
//	bin/e2e mutants --short --seed=7
//	bin/e2e mutants --only='gate.*Ticket' --scenarios
//
// The rule: a condition is negated, a comparison is shifted by one value, a
// statement without a result (a call, an assignment to a field, a defer) is left
// out. The faults of a package are built into its tests at once, each behind a
// switch, through an overlay: the checkout stays as it is. Each is then played by
// itself against the unit tests of its package, those that are quick, and if it
// survives against those of the packages that use it and, when asked, against scenarios.
//
// A fault that survives all of them fails the command, unless areas.yaml has it
// with a reason.
package mutants

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/yaml"
)

// area is a package to break, with what else shows that it is broken.
type area struct {
	Package  string
	More     []string          // packages with further tests, each with those that count if not all do
	Labels   string            // of scenarios
	Accepted map[string]string // faults that may survive, with the reason

	faults []*fault
	files  map[string]string // the changed ones, by path
	work   string            // what is built is here
}

//go:embed areas.yaml
var areasFile []byte

// load returns the areas of a file with all their faults.
func load(file []byte) (areas []*area, err error) {
	if err := yaml.UnmarshalStrict(file, &areas); err != nil {
		return nil, fmt.Errorf("areas.yaml: %w", err)
	}
	for _, a := range areas {
		if err := a.breakIn(); err != nil {
			return nil, err
		}
		left := maps.Clone(a.Accepted)
		for _, f := range a.faults {
			if f.reason = a.Accepted[f.key]; f.reason != "" {
				delete(left, f.key)
			}
		}
		for key := range left {
			return nil, fmt.Errorf("areas.yaml: %s: there is no such fault any more, or no reason; look for its new name with --list", key)
		}
	}
	return areas, nil
}

// Command plays faults.
type Command struct {
	Short     bool           `help:"Play faults of two packages, chosen by the seed, as many as begin in 15 s each."`
	Seed      uint64         `help:"Chooses packages, and the order of faults."`
	Only      *regexp.Regexp `help:"Play only faults whose name in areas.yaml matches this regular expression." default:"."`
	Scenarios bool           `help:"Play survivors against the scenarios of their area, on the embedded control plane."`
	List      bool           `help:"List the faults and play none."`
}

// What the short form plays.
const (
	shortPackages = 2
	shortTime     = 15 * time.Second
)

// Run says on standard output what became of them.
func (c Command) Run(ctx context.Context, k *kong.Context) error {
	areas, err := load(areasFile)
	if err != nil {
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
		if len(a.faults) > 0 && (!c.Short || len(chosen) < shortPackages) {
			chosen = append(chosen, a)
		}
	}
	return chosen
}

// play plays the faults of an area against one suite after the other, as long as
// they survive. Its own tests come twice, because some notice a fault by chance.
// Accepted faults are played against these alone.
func (a *area) play(ctx context.Context, c Command) (err error) {
	if a.work, err = os.MkdirTemp("", "mutants-*"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(a.work)) }()
	// Some tests become another user, who has to get through.
	if err := errors.Join(os.Chmod(a.work, 0o711), a.writeOverlay()); err != nil {
		return err
	}
	suites := append([]string{a.Package}, a.More...)
	if c.Scenarios {
		suites = append(suites, scenarios)
	}
	for i, which := range suites {
		alive := slices.DeleteFunc(slices.Clone(a.faults), func(f *fault) bool { return i > 0 && f.verdict != survived })
		if len(alive) == 0 {
			break
		}
		tests, err := a.suite(ctx, which)
		if err != nil {
			return err
		}
		var playing errgroup.Group
		playing.SetLimit(tests.together)
		begun := time.Now()
		for _, f := range alive {
			if ctx.Err() != nil || i == 0 && c.Short && time.Since(begun) > shortTime {
				break
			}
			playing.Go(func() error {
				if tests.play(ctx, f); i == 0 && f.verdict == survived {
					tests.play(ctx, f)
				}
				return nil
			})
		}
		_ = playing.Wait()
	}
	return ctx.Err()
}

// most is the part of the faults that may survive, in percent.
const most = 5

// report prints what became of the faults, and returns an error if the tests
// are not good enough.
func report(out io.Writer, areas []*area) error {
	together, played := make(map[verdict]int), 0
	var lines []string
	for _, a := range areas {
		counts := make(map[verdict]int)
		for _, f := range a.faults {
			counts[f.verdict]++
			together[f.verdict]++
			if f.verdict == unplayed {
				continue
			}
			if played++; f.verdict != killed || f.reason != "" {
				fmt.Fprintf(out, "%s\n\t%s %s\n", f, f.verdict, f.reason)
			}
		}
		lines = append(lines, fmt.Sprintf("%-30s %v\n", a.Package, counts))
	}
	slices.Sort(lines)
	fmt.Fprintf(out, "%s%-30s %v\n", strings.Join(lines, ""), "together", together)
	switch {
	case played == 0:
		return errors.New("no fault is chosen")
	case together[survived] > 0:
		return fmt.Errorf("%d faults survive; write a test that fails with each, or say in areas.yaml why none can", together[survived])
	case played >= 200 && together[accepted]*100 > most*played:
		return fmt.Errorf("%d of %d faults survive; must be at most %d%%", together[accepted], played, most)
	}
	return nil
}
