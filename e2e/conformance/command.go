package conformance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/studioml/studio-go-runner/e2e/report"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// Command plays the contract against a runner.
type Command struct {
	Runner    string `required:"" type:"existingfile" placeholder:"PROGRAM" help:"The adapter of the runner; see e2e/conformance/README.md."`
	Level     Level  `enum:"core,extended" default:"core" help:"How much is played: ${enum}; extended is core as well."`
	Report    string `placeholder:"FILE" help:"Where the report goes. Default: report.yaml among the artifacts."`
	Artifacts string `default:"artifacts/conformance" help:"Where the page, and what failed scenarios leave behind, go."`
	NVML      string `name:"nvml" help:"The fake NVML library for runners that are processes." type:"path" default:"bin/libnvidia-ml.so.1"`
	Procs     int    `help:"Scenarios at the same time. They mostly wait. Default: 6 for each core."`

	Image    string          `placeholder:"IMAGE" help:"Play pods of this image on the cluster of KUBECONFIG. It must have what the adapter, a script of its shell, calls."`
	Postgres string          `placeholder:"IMAGE" help:"That of the PostgreSQL server that has the queues of pods, if not the published one."`
	Target   scenario.Target `enum:"existing,kind" default:"existing" help:"Which cluster that is: somebody's (existing), or the suite's own (kind)."`
}

// Run plays, and writes the report and the page; of a run that did not come to its end
// the page alone.
func (c Command) Run(ctx context.Context, k *kong.Context) (err error) {
	suite, err := Load(filepath.Join("e2e", "conformance"))
	if err != nil {
		return err
	}
	file := cmp.Or(c.Report, filepath.Join(c.Artifacts, "report.yaml"))
	free, err := c.prepare(file)
	if err != nil {
		return err
	}
	defer free()
	p, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close(context.WithoutCancel(ctx))) }()
	begun := time.Now()
	results, err := c.play(ctx, k, p, suite)
	return c.conclude(ctx, k, p, file, begun, results, err)
}

// conclude writes what there is to write, and says how it went.
func (c Command) conclude(ctx context.Context, k *kong.Context, p *played, file string, begun time.Time, results []Result, err error) error {
	page := pageOf(p, begun, results, c.Artifacts)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted") // and what it was about then does not matter
		}
		page.Trouble = []string{err.Error()}
		return errors.Join(fmt.Errorf("%d of %d scenarios were played, see %s; there is no report: %w",
			len(page.Specs), len(results), filepath.Join(c.Artifacts, report.PageFile), err), page.Write(c.Artifacts))
	}
	conforms := NewReport(p.who, string(p.kind), p.version, results)
	if err := errors.Join(page.Write(c.Artifacts), conforms.Write(file)); err != nil {
		return err
	}
	failed := 0
	for _, l := range conforms.Levels {
		failed += l.Statistics.Failed
		fmt.Fprintf(k.Stdout, "%s: %s, %d passed, %d failed, %d skipped\n", l.Name, l.Result, l.Statistics.Passed, l.Statistics.Failed, l.Statistics.Skipped)
	}
	fmt.Fprintf(k.Stdout, "report: %s\npage: %s\n", file, filepath.Join(c.Artifacts, report.PageFile))
	if failed > 0 {
		return fmt.Errorf("%s %s does not conform: %d scenarios failed", p.who.Project, p.who.Version, failed)
	}
	return nil
}

// prepare finds out what would be found out after minutes, and keeps other runs out of
// the artifacts until free.
func (c Command) prepare(file string) (free func(), err error) {
	if info, err := os.Stat(c.Runner); err == nil && c.Image == "" && info.Mode()&0o111 == 0 {
		return nil, fmt.Errorf("the adapter %s must be a program: chmod +x", c.Runner)
	}
	if err := os.MkdirAll(c.Artifacts, 0o755); err != nil {
		return nil, fmt.Errorf("make a place for the page: %w", err)
	}
	_, before := os.Stat(file)
	written, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		err = written.Close()
	}
	if err == nil && before != nil {
		err = os.Remove(file) // until there is one
	}
	if err != nil {
		return nil, fmt.Errorf("the report must be a file that can be written: %w", err)
	}
	lock, err := os.Create(filepath.Join(c.Artifacts, "lock"))
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another run writes into %s (%w); wait for it, or name another directory (ARTIFACTS=…)", c.Artifacts, err), lock.Close())
	}
	return func() { _ = lock.Close() }, nil
}

// play tells of each scenario as it ends.
func (c Command) play(ctx context.Context, k *kong.Context, on *played, suite *Suite) ([]Result, error) {
	levels := []Level{Core}
	all := len(suite.Scenarios[Core])
	if c.Level == Extended {
		levels = Levels
		all += len(suite.Scenarios[Extended])
	}
	done := 0
	const each = 6
	player := Player{Target: on.target, Kind: on.kind, Procs: cmp.Or(c.Procs, each*runtime.NumCPU()), Artifacts: c.Artifacts, Ended: func(one Result) {
		done++
		what := "ok     "
		switch {
		case one.Skipped != "":
			what = "skipped"
		case one.Err != nil:
			what = "FAILED "
		}
		fmt.Fprintf(k.Stderr, "%3d of %d %s %5.1f s  %s\n", done, all, what, one.Length.Seconds(), one.Scenario.Name)
		if one.Err != nil {
			fmt.Fprintf(k.Stderr, "           %s\n", strings.SplitN(one.Err.Error(), "\n", 2)[0])
		}
	}}
	return player.Play(ctx, suite, levels...)
}

// pageOf is the run for people.
func pageOf(p *played, begun time.Time, results []Result, artifacts string) *report.Run {
	run := &report.Run{
		Target: string(p.kind), Start: begun, Length: time.Since(begun), Version: p.who.Project + " " + p.who.Version,
		Around: []string{"conformance", "Kubernetes " + p.version},
	}
	for _, one := range results {
		if !one.Played {
			continue
		}
		s := report.Spec{Name: one.Scenario.Name, Area: string(one.Level), Location: one.Scenario.Location(), Length: one.Length, Story: one.Story, Outcome: report.Passed}
		for _, row := range one.Scenario.Rows {
			s.Labels = append(s.Labels, fmt.Sprintf("row:%d", row))
		}
		switch {
		case one.Skipped != "":
			s.Outcome, s.Failure = report.Skipped, one.Skipped
		case one.Err != nil:
			s.Outcome, s.Failure = report.Failed, one.Err.Error()
			s.Evidence = report.Files(artifacts, s.Area, s.Name, begun)
		}
		run.Specs = append(run.Specs, s)
	}
	run.Arrange()
	return run
}
