package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// Results are the metrics that were measured.
type Results map[Metric]*float64

// measure runs benchmarks, one package after the other so that each has the machine
// for itself. What go test prints is shown as it comes.
func measure(ctx context.Context, names []string, short bool) (Results, error) {
	results, failed := Results{}, []error{}
	packages, err := packagesOf(names)
	if err != nil {
		return nil, err
	}
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		if err := results.fromPackage(ctx, dir, pattern(packages[dir]), short); err != nil && ctx.Err() == nil {
			failed = append(failed, fmt.Errorf("the benchmarks of %s: %w", dir, err))
		}
	}
	return results, errors.Join(failed...)
}

// whole are the packages whose benchmarks measure something large, and know by
// themselves how often.
var whole = []string{"e2e/bench", "runner"}

func (r Results) fromPackage(ctx context.Context, dir, pattern string, short bool) error {
	args := []string{"test", "-vet=off", "-ldflags=-extldflags=-Wl,-z,lazy", "-run=^$", "-timeout=30m", "-bench=" + pattern}
	if short {
		args = append(args, "-short")
	}
	if short || slices.Contains(whole, dir) {
		args = append(args, "-benchtime=1x")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+dir)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	return errors.Join(r.read(io.TeeReader(out, os.Stderr)), cmd.Wait())
}

// read takes the results out of what go test prints.
func (r Results) read(from io.Reader) error {
	reader := benchfmt.NewReader(from, "go test")
	for reader.Scan() {
		result, ok := reader.Result().(*benchfmt.Result)
		if !ok {
			continue // a line for people
		}
		name := processors.ReplaceAllString(result.Name.String(), "")
		for _, v := range result.Values {
			if v.OrigUnit != "" { // the reader likes other units better
				v.Unit, v.Value = v.OrigUnit, v.OrigValue
			}
			r[Metric(name+" "+v.Unit)] = &v.Value
		}
	}
	return reader.Err()
}

// processors is what go test adds to a name.
var processors = regexp.MustCompile(`-\d+$`)

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

var declared = regexp.MustCompile(`(?m)^func Benchmark(\w+)\(`)

// packagesOf finds where in this repository the benchmarks are.
func packagesOf(names []string) (map[string][]string, error) {
	where := map[string]string{}
	for _, top := range []string{"e2e", "fakegpu", "runner"} {
		err := filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, name := range declared.FindAllSubmatch(text, -1) {
				where[string(name[1])] = filepath.Dir(path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	packages := map[string][]string{}
	for _, name := range names {
		function, _, _ := strings.Cut(name, "/")
		dir, ok := where[function]
		if !ok {
			return nil, fmt.Errorf("rows.yaml: there is no Benchmark%s", function)
		}
		packages[dir] = append(packages[dir], name)
	}
	return packages, nil
}
