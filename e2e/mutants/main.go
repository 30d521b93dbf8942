// Command mutants breaks the runner by a rule, one fault at a time, and says
// which faults no test notices: each of those is a rule that nobody tests.
//
//	go run ./e2e/mutants                  # every fault
//	go run ./e2e/mutants --sample=80 --seed=7
//	go run ./e2e/mutants --only='gate.*Ticket' --scenarios
//
// The rule: a condition is negated, a comparison is shifted by one value, a
// statement without a result (a call, an assignment to a field, a defer) is left
// out. The faults of a package are built into its tests at once, each behind a
// switch, through an overlay: the checkout stays as it is. Each is then played by
// itself against the unit tests of its package, and if it survives against those
// of the packages that use it and, when asked, against scenarios.
//
// A fault that survives all of them fails the command, unless accepted.txt has it
// with a reason.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"github.com/alecthomas/kong"
)

// area is a package to break, with what else shows that it is broken.
type area struct {
	pkg    string
	more   []string // packages with further tests
	labels string   // of scenarios
}

var areas = []area{
	{"runner/internal/lifecycle", []string{"runner"}, "area: containsAny {drain, precedence, start, transitions, values}"},
	{"runner/internal/gate", []string{"runner/internal/scheduler", "runner/internal/lifecycle"}, "area: containsAny {drain}"},
	{"runner/internal/statemap", []string{"runner"}, "area: containsAny {apiserver, start, values}"},
	{"runner/internal/kube", []string{"runner/internal/statemap", "runner"}, "area: containsAny {apiserver, start}"},
	{"runner/internal/scheduler", []string{"runner"}, "area: containsAny {drain, gpu}"},
	{"runner/internal/queue/spool", []string{"runner"}, "area: containsAny {drain}"},
	{"runner/internal/gpu", []string{"runner/internal/scheduler", "runner"}, "area: containsAny {gpu}"},
	{"runner/internal/task", []string{"runner"}, "area: containsAny {drain, gpu}"},
	{"runner/internal/supervise", []string{"runner/internal/task", "runner"}, "area: containsAny {drain}"},
}

// flags are the command line.
type flags struct {
	Sample    int    `help:"Play only so many faults, chosen by the seed. 0 plays all."`
	Seed      uint64 `help:"Chooses the sample."`
	Only      string `help:"Play only faults whose name in accepted.txt matches this regular expression."`
	Scenarios bool   `help:"Play survivors against the scenarios of their area, on the embedded control plane."`
	List      bool   `help:"List the faults and play none."`
	Output    bool   `help:"Print what the tests say of each fault."`
	Jobs      int    `help:"How many tests run at the same time; many only wait." default:"${cpus}"`

	only *regexp.Regexp
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var f flags
	kong.Parse(&f, kong.Name("mutants"), kong.Vars{"cpus": fmt.Sprint(2 * runtime.NumCPU())},
		kong.Description("Break the runner by a rule, one fault at a time, and list the faults that no test notices."))
	if err := f.run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		stop()
		os.Exit(1)
	}
}

// mutant is a fault and what became of it.
type mutant struct {
	fault
	verdict verdict
}

func (f *flags) run(ctx context.Context, out io.Writer) (err error) {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	if err := f.compile(); err != nil {
		return err
	}
	if err := checkAlone(ctx); err != nil {
		return err
	}
	work, err := tempDir("", "mutants-*", 0o711)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()

	var all []fault
	files := make(map[string]map[string]string)
	for _, a := range areas {
		faults, changed, err := breakPackage(root, a.pkg)
		if err != nil {
			return err
		}
		all, files[a.pkg] = append(all, faults...), changed
	}
	accepted, err := readAccepted(filepath.Join(root, "e2e", "mutants", "accepted.txt"), all)
	if err != nil {
		return err
	}
	var result []mutant
	for _, a := range areas {
		chosen := slices.DeleteFunc(f.choose(all), func(c fault) bool { return c.pkg != a.pkg })
		if f.List {
			for _, c := range chosen {
				fmt.Fprintf(out, "%s:%d: %s\n", c.pkg, c.line, c.key)
			}
			continue
		}
		if len(chosen) == 0 {
			continue
		}
		played, err := f.play(ctx, out, root, work, a, chosen, files[a.pkg], accepted)
		if err != nil {
			return err
		}
		result = append(result, played...)
	}
	if f.List {
		return nil
	}
	return report(out, result, accepted)
}

func (f *flags) compile() (err error) {
	if f.only, err = regexp.Compile(f.Only); err != nil {
		return fmt.Errorf("--only is no regular expression: %w", err)
	}
	return nil
}

// samplePackages is of how many packages a sample is: each costs its build and a
// run without a fault.
const samplePackages = 3

// choose returns the faults that are asked for, in order.
func (f *flags) choose(all []fault) []fault {
	chosen := slices.DeleteFunc(slices.Clone(all), func(c fault) bool { return !f.only.MatchString(c.key) })
	if f.Sample == 0 || f.Sample >= len(chosen) {
		return chosen
	}
	random := rand.New(rand.NewPCG(f.Seed, 0))
	var pkgs []string
	for _, c := range chosen {
		if !slices.Contains(pkgs, c.pkg) {
			pkgs = append(pkgs, c.pkg)
		}
	}
	random.Shuffle(len(pkgs), func(i, j int) { pkgs[i], pkgs[j] = pkgs[j], pkgs[i] })
	pkgs = pkgs[:min(len(pkgs), samplePackages)]
	chosen = slices.DeleteFunc(chosen, func(c fault) bool { return !slices.Contains(pkgs, c.pkg) })
	places := random.Perm(len(chosen))[:min(len(chosen), f.Sample)]
	slices.Sort(places)
	sample := make([]fault, 0, f.Sample)
	for _, i := range places {
		sample = append(sample, chosen[i])
	}
	return sample
}

// play plays faults of one area against one suite after the other, as long as
// they survive. Its own tests come twice, because some notice a fault by chance.
// Accepted faults are played against these alone.
func (f *flags) play(ctx context.Context, out io.Writer, root, work string, a area, chosen []fault, files, accepted map[string]string) ([]mutant, error) {
	work, err := tempDir(work, "area-*", 0o711)
	if err != nil {
		return nil, err
	}
	overlay, err := writeOverlay(work, files)
	if err != nil {
		return nil, err
	}
	mutants := make([]mutant, len(chosen))
	for i, c := range chosen {
		mutants[i] = mutant{c, unreached}
	}
	suites := make(map[string]*suite)
	for i, pkg := range append([]string{a.pkg, a.pkg}, a.more...) {
		alive := func(m mutant) bool {
			return (m.verdict == survived || m.verdict == unreached) && (i == 0 || accepted[m.key] == "")
		}
		if !slices.ContainsFunc(mutants, alive) {
			break
		}
		if suites[pkg] == nil {
			if suites[pkg], err = buildSuite(ctx, root, work, overlay, pkg); err != nil {
				return nil, err
			}
		}
		var workers sync.WaitGroup
		next := make(chan *mutant)
		for range f.Jobs {
			workers.Go(func() {
				for m := range next {
					got, output := suites[pkg].play(ctx, m.number)
					if got != unreached {
						m.verdict = got
					}
					f.show(out, m.key, got, pkg, output)
				}
			})
		}
		for i := range mutants {
			if alive(mutants[i]) && ctx.Err() == nil {
				next <- &mutants[i]
			}
		}
		close(next)
		workers.Wait()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	for i := range mutants {
		if m := &mutants[i]; f.Scenarios && (m.verdict == survived || m.verdict == unreached) && accepted[m.key] == "" {
			got, output := scenarios(ctx, root, work, overlay, a.labels, m.number)
			m.verdict = got
			f.show(out, m.key, got, "scenarios", output)
		}
	}
	return mutants, nil
}

func (f *flags) show(out io.Writer, key string, got verdict, where, output string) {
	if f.Output {
		fmt.Fprintf(out, "--- %s: %s in %s\n%s\n", key, verdicts[got], where, output)
	}
}
