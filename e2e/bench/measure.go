package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Time is how long measuring may take.
type Time struct {
	Whole metav1.Duration            `json:"whole"`
	Each  metav1.Duration            `json:"each"` // function with benchmarks
	Long  map[string]metav1.Duration `json:"long"` // those that may take longer
}

// measure runs benchmarks, one function after the other so that each has the machine for
// itself, and each as a program with a time of its own, so that none takes others with it.
func (p *Plan) measure(ctx context.Context, names []string, short bool) (Results, error) {
	until := time.Now().Add(p.Time.Whole.Duration)
	r := Results{map[Metric]float64{}, map[string]Lack{}}
	places, err := placesOf(names)
	if err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // what they start is not all of the same user
		return r, err
	}
	if err := build(ctx, dir, slices.Collect(maps.Values(places))); err != nil {
		return r, err
	}
	for _, group := range byFunction(names) {
		function, began := functionOf(group[0]), time.Now()
		limit := min(cmp.Or(p.Time.Long[function], p.Time.Each).Duration, time.Until(until))
		if limit <= 0 {
			r.Lacks[function] = Lack{fmt.Sprintf("the %s for all rows were over", p.Time.Whole.Duration), true}
			continue
		}
		err := r.run(ctx, limit, dir, places[function], group, short)
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
		if err != nil {
			r.add(function, Lack{err.Error(), true})
		}
		fmt.Fprintf(os.Stderr, "%s took %s\n", function, time.Since(began).Round(time.Second/10))
	}
	return r, nil
}

// build makes a program of each package's benchmarks.
func build(ctx context.Context, dir string, places []string) error {
	slices.Sort(places)
	args := []string{"test", "-c", "-vet=off", "-ldflags=-extldflags=-Wl,-z,lazy", "-o=" + dir + "/"}
	for _, place := range slices.Compact(places) {
		args = append(args, "./"+place)
	}
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build the benchmarks: %w: %s", err, out)
	}
	return nil
}

// large are the packages whose benchmarks measure something large, and know by
// themselves how often.
var large = []string{"e2e/bench", "runner"}

// run runs some benchmarks of a package, whose output is shown as it comes, and ends them
// with all that they have started when their time is over.
func (r Results) run(ctx context.Context, limit time.Duration, dir, place string, names []string, short bool) error {
	// Verbose, for else nothing says that one was skipped.
	args := []string{"-test.run=^$", "-test.v", "-test.bench=" + pattern(names), "-test.artifacts", "-test.outputdir=" + dir}
	if short {
		args = append(args, "-test.short")
	}
	if short || slices.Contains(large, place) {
		args = append(args, "-test.benchtime=1x")
	}
	ctx, enough := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %s", limit.Round(time.Second)))
	defer enough()
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(dir, filepath.Base(place)+".test"), args...)
	cmd.Dir, cmd.Env = place, append(os.Environ(), "TMPDIR="+dir)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(os.Stderr, &out), io.MultiWriter(os.Stderr, &problems)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second // some of them have others to end
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what is left
	}
	r.read(out.String())
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	said := strings.TrimSpace(problems.String())
	switch panicked := panics.FindString(said); {
	case err != nil && panicked != "":
		return errors.New(panicked)
	case err != nil && said != "":
		return fmt.Errorf("%w: %s", err, said[strings.LastIndex(said, "\n")+1:])
	}
	return err
}

var panics = regexp.MustCompile(`(?m)^(panic|fatal error): .*$`)

// pattern is for go test -bench: these and no others.
func pattern(names []string) string {
	var all []string
	for _, name := range names {
		parts := strings.Split("Benchmark"+name, "/")
		for i, part := range parts {
			parts[i] = "^" + regexp.QuoteMeta(part) + "$"
		}
		all = append(all, strings.Join(parts, "/"))
	}
	return strings.Join(all, "|")
}

func functionOf(name string) string { function, _, _ := strings.Cut(name, "/"); return function }

// byFunction puts the benchmarks of a function together, in the order of the first ones.
func byFunction(names []string) (groups [][]string) {
	at := map[string]int{}
	for _, name := range names {
		function := functionOf(name)
		if _, there := at[function]; !there {
			at[function] = len(groups)
			groups = append(groups, nil)
		}
		groups[at[function]] = append(groups[at[function]], name)
	}
	return groups
}
