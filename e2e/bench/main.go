// Command bench measures the runner beside what a user would pick instead, and prints
// one table: a row for each figure, with the peer that was measured in the same run,
// the ratio of both, the goal, and whether it is met.
//
//	make bench                  # all rows; writes README.md and the pictures here
//	make bench BENCH='spool'    # rows whose name matches
//	make bench SHORT=1          # each row once, in its smallest form: does it still work?
//
// A row is an entry of rows.yaml. It names a metric of a Go benchmark, wherever in this
// repository that is, and another metric for the peer. What is measured stands beside
// the code that it is about; the peers, and what is measured from outside, are
// benchmarks of this package. One that fails, or takes too long, costs its rows and no
// others: they say why, and the exit status is 1.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"slices"
	"syscall"

	"github.com/alecthomas/kong"
)

// options are the flags.
type options struct {
	Only  *regexp.Regexp `name:"bench" default:"" help:"Only rows whose name matches this regular expression."`
	Short bool           `help:"Each row once, in its smallest form."`
	Page  string         `default:"e2e/bench" help:"The directory of the page, which only a run of all rows in their full form writes."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	kong.Parse(&o, kong.Name("bench"), kong.Description("Measure the runner beside what a user would pick instead."))
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func (o *options) run(ctx context.Context) error {
	plan, err := load()
	if err != nil {
		return err
	}
	whole := len(plan.Rows)
	plan.Rows = slices.DeleteFunc(plan.Rows, func(r Row) bool { return !o.Only.MatchString(r.Name) })
	if len(plan.Rows) == 0 {
		return fmt.Errorf("no row has a name that matches %q", o.Only)
	}
	missing := plan.missing(func(program string) bool { _, err := exec.LookPath(program); return err == nil })
	for _, program := range slices.Sorted(maps.Keys(missing)) {
		fmt.Fprintf(os.Stderr, "%s is not installed, so rows lack their peer or a figure, or the page its pictures; install it: apt-get install %s\n", program, missing[program])
	}
	var page *Page
	if len(plan.Rows) == whole && !o.Short {
		if page, err = newPage(ctx, plan); err != nil {
			return err
		}
	}
	results, err := plan.measure(ctx, plan.benchmarks(missing), o.Short)
	if err != nil {
		return err
	}
	lines := plan.lines(results, missing)
	err = printTable(os.Stdout, lines, o.Short)
	if page != nil {
		page.Lines = lines
		err = errors.Join(err, page.write(o.Page, results))
	}
	for _, l := range lines {
		if l.Failed {
			err = errors.Join(err, fmt.Errorf("row %q %s", l.Name, l.Verdict))
		}
	}
	return err
}
