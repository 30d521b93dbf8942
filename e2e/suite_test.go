package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	. "github.com/onsi/gomega"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/report"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

// config is how make calls the suite: a flag for each field, or an environment
// variable that is the flag's default.
var config struct {
	target     string
	scenarios  string
	runner     string
	client     string
	nvml       string
	kubeconfig string
	nodeImage  string
	image      string
	postgres   string
	runtime    string
	artifacts  string
	contract   string
	keep       bool
}

func init() {
	text := func(field *string, name, variable, otherwise, usage string) {
		flag.StringVar(field, "e2e."+name, cmp.Or(os.Getenv(variable), otherwise), usage+" ("+variable+")")
	}
	text(&config.target, "target", "E2E_TARGET", "", "the kind of `cluster`: embedded, kind or existing; without it no scenario is run")
	text(&config.scenarios, "scenarios", "E2E_SCENARIOS", filepath.Join("..", "scenarios"), "the `directory` of the scenarios; by default from e2e/ or bin/, where tests run")
	text(&config.runner, "runner", "E2E_RUNNER", filepath.Join("..", "bin", "runner-race"), "embedded: the runner's `program`")
	text(&config.client, "client", "E2E_CLIENT", "", "the runner's `program` for submits and looks into the queue; by default the one of -e2e.runner or, where runners are pods, of PATH")
	text(&config.nvml, "nvml", "E2E_NVML", "", "embedded: the fake NVML `library`; without it there are no GPUs")
	text(&config.nodeImage, "node-image", "KIND_NODE_IMAGE", "", "kind: the `image` of a node, if not kind's published one")
	text(&config.kubeconfig, "kubeconfig", "E2E_KUBECONFIG", "", "existing: the `file` that says how to reach the cluster; by default KUBECONFIG, ~/.kube/config or, in a pod, its service account")
	text(&config.image, "image", "E2E_IMAGE", "", "existing: the `image` of the runners, which must have a shell, too")
	text(&config.postgres, "postgres", "E2E_POSTGRES", "", "existing: the `image` of the queues' PostgreSQL server, if not the published one")
	text(&config.runtime, "runtime-class", "E2E_RUNTIME_CLASS", "", "existing: the RuntimeClass `name` of runners with the cluster's GPUs; by default the nodes' own runtime")
	text(&config.artifacts, "artifacts", "E2E_ARTIFACTS", filepath.Join("..", "artifacts"), "the `directory` for the page of the run, and what failed scenarios leave")
	text(&config.contract, "contract", "E2E_CONTRACT", "", "kind: only the contract is played, as a black box, with these `arguments` of bin/e2e conformance")
	flag.BoolVar(&config.keep, "e2e.keep", os.Getenv("E2E_KEEP") != "", "keep the evidence of all scenarios, and the kind cluster (E2E_KEEP)")
}

// target is the one that the specs of this process use.
var target targets.Target

func TestMain(m *testing.M) {
	janitor() // in a process that is one, this does not return
	os.Exit(m.Run())
}

// On kind and existing queues are in PostgreSQL, but for scenarios that give no task and
// are of no row that 75 names; on embedded they are in a spool, and those of the rows that
// 75 names in PostgreSQL as well.
//
// catalogue: row 75
func TestE2E(t *testing.T) {
	if config.target == "" {
		t.Skip("needs a cluster: neither -e2e.target nor E2E_TARGET is set; run it with: make e2e")
	}
	if !slices.Contains(scenario.Targets, scenario.Target(config.target)) {
		t.Fatalf("the target is %q; must be one of %v", config.target, scenario.Targets)
	}
	// Other programs, which run in other directories, get these paths.
	for _, path := range []*string{&config.runner, &config.client, &config.nvml, &config.kubeconfig, &config.artifacts} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			t.Fatal(err)
		}
	}
	scenarios, err := engine.Format.LoadDir(config.scenarios)
	if err != nil {
		t.Fatalf("the scenarios have errors; see make scenarios:\n%v", err)
	}
	if config.contract != "" {
		RegisterFailHandler(Fail)
		contractSpec()
		RunSpecs(t, "the contract on kind")
		return
	}
	specs(scenarios)
	if config.target != "embedded" {
		workloads()
	} else {
		demoSpecs()
		documentSpecs()
		conditionSpecs()
		operatorSpecs()
	}
	if config.target == "kind" {
		spareSpecs()
		nodeSpecs()
		gpuSpecs()
		outageSpecs()
		imageSpecs()
		evictionSpecs()
		operatorsOnKind()
		recipeSpecs()
		memorySpecs()
		volumeSpecs()
	}
	RegisterFailHandler(Fail)
	RunSpecs(t, "studio-go-runner on "+config.target, Label("target:"+config.target))
}

// The first process makes the cluster ready, all of them use it.
var _ = SynchronizedBeforeSuite(func(ctx SpecContext) []byte {
	ready, err := setUp[config.target](ctx)
	if err != nil {
		Fail(err.Error()) // a sentence for people, not a value for programmers
	}
	data, err := json.Marshal(ready)
	Expect(err).NotTo(HaveOccurred())
	return data
}, func(_ context.Context, data []byte) {
	var err error
	target, err = open[config.target](data)
	Expect(err).NotTo(HaveOccurred())
}, GracePeriod(3*time.Minute)) // to remove, after Ctrl-C, a cluster that was being made

// How far the run is goes into a file for make to show.
var (
	_ = ReportBeforeSuite(func(r Report) {
		Expect(os.MkdirAll(config.artifacts, 0o755)).To(Succeed())
		Expect(report.Begin(config.artifacts, r.PreRunStats.SpecsThatWillRun)).To(Succeed())
	})
	_ = ReportAfterEach(func(r SpecReport) { Expect(report.Ended(config.artifacts, r)).To(Succeed()) })
)

// The page is for people, who need it most after a run that failed.
var _ = ReportAfterSuite("page", func(r Report) {
	run, err := report.FromGinkgo(r, config.artifacts)
	Expect(err).NotTo(HaveOccurred())
	Expect(run.Write(config.artifacts)).To(Succeed())
})

// The summary is left in a file for make to print: what this process prints is
// not shown when several run the specs.
var _ = ReportAfterSuite("summary", func(r Report) {
	specs := r.SpecReports.WithLeafNodeType(types.NodeTypeIt)
	skipped, reasons := 0, map[string]int{}
	for _, spec := range specs.WithState(types.SpecStateSkipped) {
		if reason := spec.Failure.Message; reason != "" { // the others were not asked for
			skipped++
			reasons[reason]++
		}
	}
	text := fmt.Sprintf("%s: %d passed, %d failed, %d skipped\n", config.target,
		specs.CountWithState(types.SpecStatePassed), specs.CountWithState(types.SpecStateFailureStates&^types.SpecStateInterrupted), skipped)
	if n := specs.CountWithState(types.SpecStateInterrupted); n > 0 {
		text += fmt.Sprintf("  %d interrupted\n", n)
	}
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		text += fmt.Sprintf("  %d skipped: %s\n", reasons[reason], reason)
	}
	text += fmt.Sprintf("the page: %s\n", filepath.Join(config.artifacts, report.PageFile))
	if upIn > 0 {
		text += fmt.Sprintf("the kind cluster was up in %s\n", upIn.Round(time.Second))
	}
	if nodes != nil && config.keep {
		text += nodes.Look() + "\n"
	}
	Expect(os.MkdirAll(config.artifacts, 0o755)).To(Succeed())
	Expect(os.WriteFile(filepath.Join(config.artifacts, "summary.txt"), []byte(text), 0o644)).To(Succeed())
})
