package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/studioml/studio-go-runner/e2e/conformance"
	"github.com/studioml/studio-go-runner/e2e/report"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded/assets"
)

type conformanceCommands struct {
	Play   playCommand   `cmd:"" help:"Play the contract against a runner, and write a report; exit code 1 if it does not conform."`
	Matrix matrixCommand `cmd:"" help:"Write e2e/conformance/MATRIX.md from the reports there."`
}

// AfterApply looks for the repository, whose rows are played.
func (c conformanceCommands) AfterApply(r *repository) (err error) {
	if r.root == "" {
		r.root, err = findRoot()
	}
	return err
}

type playCommand struct {
	Runner    string            `required:"" type:"existingfile" placeholder:"PROGRAM" help:"The adapter of the runner; see e2e/conformance/README.md."`
	Level     conformance.Level `enum:"core,extended" default:"core" help:"How much is played: ${enum}; extended is core as well."`
	Report    string            `placeholder:"FILE" help:"Where the report goes. Default: report.yaml among the artifacts."`
	Artifacts string            `default:"artifacts/conformance" help:"Where the page, and what failed scenarios leave behind, go."`
	NVML      string            `name:"nvml" help:"The fake NVML library for runners with GPUs." type:"path" default:"bin/libnvidia-ml.so.1"`
	Procs     int               `help:"Scenarios at the same time. They mostly wait. Default: 8 for each core."`
}

// Run plays on a control plane of its own.
func (c playCommand) Run(ctx context.Context, r *repository) error {
	who, err := describe(ctx, c.Runner)
	if err != nil {
		return err
	}
	suite, err := conformance.Load(r.path("e2e", "conformance"))
	if err != nil {
		return err
	}
	programs, err := assets.Ensure(ctx, r.progress)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "studio-go-runner-conformance-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	plane, err := embedded.StartControlPlane(ctx, programs, dir, nil)
	if err != nil {
		return err
	}
	defer plane.Close()
	target, err := embedded.New(embedded.Config{Handle: plane.Handle(), Adapter: []string{c.Runner}, NVMLLibrary: c.NVML})
	if err != nil {
		return err
	}
	version, err := serverVersion(plane.Handle().Kubeconfig)
	if err != nil {
		return err
	}
	begun := time.Now()
	results, err := c.play(ctx, r, target, suite)
	if err != nil {
		return err
	}
	page := pageOf(who, target.Name(), version, begun, results, c.Artifacts)
	conforms := conformance.NewReport(who, target.Name(), version, results)
	file := cmp.Or(c.Report, filepath.Join(c.Artifacts, "report.yaml"))
	if err := errors.Join(page.Write(c.Artifacts), conforms.Write(file)); err != nil {
		return err
	}
	failed := 0
	for _, l := range conforms.Levels {
		failed += l.Statistics.Failed
		fmt.Fprintf(r.out, "%s: %s, %d passed, %d failed, %d skipped\n", l.Name, l.Result, l.Statistics.Passed, l.Statistics.Failed, l.Statistics.Skipped)
	}
	fmt.Fprintf(r.out, "report: %s\npage: %s\n", file, filepath.Join(c.Artifacts, report.PageFile))
	if failed > 0 {
		return fmt.Errorf("%s %s does not conform: %d scenarios failed", who.Project, who.Version, failed)
	}
	return nil
}

// play tells of each scenario as it ends.
func (c playCommand) play(ctx context.Context, r *repository, target *embedded.Target, suite *conformance.Suite) ([]conformance.Result, error) {
	levels := []conformance.Level{conformance.Core}
	all := len(suite.Scenarios[conformance.Core])
	if c.Level == conformance.Extended {
		levels = conformance.Levels
		all += len(suite.Scenarios[conformance.Extended])
	}
	done := 0
	const each = 8
	player := conformance.Player{Target: target, Procs: cmp.Or(c.Procs, each*runtime.NumCPU()), Artifacts: c.Artifacts, Ended: func(one conformance.Result) {
		done++
		what := "ok     "
		switch {
		case one.Skipped != "":
			what = "skipped"
		case one.Err != nil:
			what = "FAILED "
		}
		fmt.Fprintf(r.progress, "%3d of %d %s %5.1f s  %s\n", done, all, what, one.Length.Seconds(), one.Scenario.Name)
		if one.Err != nil {
			fmt.Fprintf(r.progress, "           %s\n", strings.SplitN(one.Err.Error(), "\n", 2)[0])
		}
	}}
	return player.Play(ctx, suite, levels...)
}

// describe asks an adapter whose runner it is.
func describe(ctx context.Context, adapter string) (who conformance.Implementation, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, adapter, "describe")
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		return who, fmt.Errorf("%s describe: %w\n%s", adapter, err, stderr.Bytes())
	}
	if err := yaml.UnmarshalStrict(text, &who); err != nil {
		return who, fmt.Errorf("%s describe: %w; must print organization, project, url and version as YAML", adapter, err)
	}
	if who.Project == "" || who.Version == "" {
		return who, fmt.Errorf("%s describe: names no project or no version", adapter)
	}
	return who, nil
}

func serverVersion(kubeconfig []byte) (string, error) {
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return "", err
	}
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return "", err
	}
	version, err := client.ServerVersion()
	if err != nil {
		return "", fmt.Errorf("ask for the version of the API server: %w", err)
	}
	return version.GitVersion, nil
}

// pageOf is the run for people.
func pageOf(who conformance.Implementation, target, kubernetes string, begun time.Time, results []conformance.Result, artifacts string) *report.Run {
	run := &report.Run{
		Target: target, Start: begun, Length: time.Since(begun), Version: who.Project + " " + who.Version,
		Around: []string{"conformance", "Kubernetes " + kubernetes},
	}
	for _, one := range results {
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

type matrixCommand struct {
	Check bool `help:"Write nothing; exit code 1 if the page is not up to date."`
}

// Run writes the matrix, or compares it.
func (c matrixCommand) Run(r *repository) error {
	suite, err := conformance.Load(r.path("e2e", "conformance"))
	if err != nil {
		return err
	}
	reports, err := conformance.ReadReports(r.path("e2e", "conformance", "reports"))
	if err != nil {
		return err
	}
	file, text := r.path("e2e", "conformance", "MATRIX.md"), []byte(suite.Matrix(reports))
	if !c.Check {
		return os.WriteFile(file, text, 0o644)
	}
	old, err := os.ReadFile(file)
	if err == nil && !bytes.Equal(old, text) {
		err = errors.New("e2e/conformance/MATRIX.md is not up to date, run bin/e2e conformance matrix")
	}
	return err
}
