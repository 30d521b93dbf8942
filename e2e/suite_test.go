package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	. "github.com/onsi/gomega"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/target"
	"github.com/studioml/studio-go-runner/e2e/target/embedded"
	"github.com/studioml/studio-go-runner/e2e/target/embedded/assets"
)

// config is how make calls the suite: a flag for each field, or an environment
// variable that is the flag's default.
var config struct {
	target    string
	scenarios string
	runner    string
	client    string
	nvml      string
	artifacts string
	keep      bool
}

func init() {
	text := func(field *string, name, variable, otherwise, usage string) {
		flag.StringVar(field, "e2e."+name, cmp.Or(os.Getenv(variable), otherwise), usage+" ("+variable+")")
	}
	text(&config.target, "target", "E2E_TARGET", "", "the kind of `cluster`, embedded; without it no scenario is run")
	text(&config.scenarios, "scenarios", "E2E_SCENARIOS", filepath.Join("..", "scenarios"), "the `directory` of the scenarios")
	text(&config.runner, "runner", "E2E_RUNNER", filepath.Join("..", "bin", "runner-race"), "the runner's `program`")
	text(&config.client, "client", "E2E_CLIENT", "", "the `program` for submits and looks into the queue, if not the runner's")
	text(&config.nvml, "nvml", "E2E_NVML", "", "the fake NVML `library`; without it there are no GPUs")
	text(&config.artifacts, "artifacts", "E2E_ARTIFACTS", filepath.Join("..", "artifacts"), "the `directory` where failed scenarios leave their evidence")
	flag.BoolVar(&config.keep, "e2e.keep", os.Getenv("E2E_KEEP") != "", "keep the evidence of all scenarios (E2E_KEEP)")
}

// absolute makes the paths fit for programs that run in other directories.
func absolute() error {
	for _, path := range []*string{&config.runner, &config.client, &config.nvml, &config.artifacts} {
		if *path == "" {
			continue
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if _, err := os.Stat(config.runner); err != nil {
		return fmt.Errorf("the runner is not built; make e2e does it: %w", err)
	}
	return nil
}

// where is the target that the specs of this process use.
var where target.Target

func TestE2E(t *testing.T) {
	if config.target == "" {
		t.Skip("needs a control plane: neither -e2e.target nor E2E_TARGET is set; run it with: make e2e")
	}
	if config.target != "embedded" {
		t.Fatalf("the target is %q, allowed is embedded", config.target)
	}
	if err := absolute(); err != nil {
		t.Fatal(err)
	}
	scenarios, err := scenario.LoadDir(config.scenarios)
	if err != nil {
		t.Fatalf("the scenarios have errors; see make scenarios:\n%v", err)
	}
	specs(scenarios)
	RegisterFailHandler(Fail)
	RunSpecs(t, "studio-go-runner on "+config.target, Label("target:"+config.target))
}

// The first process starts the control plane, all of them use it.
var _ = SynchronizedBeforeSuite(func(ctx SpecContext) []byte {
	programs, err := assets.Ensure(ctx, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	dir, err := os.MkdirTemp("", "studio-go-runner-e2e-*")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() error { return os.RemoveAll(dir) })
	plane, err := embedded.StartControlPlane(ctx, programs, dir)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(plane.Close)
	handle, err := json.Marshal(plane.Handle())
	Expect(err).NotTo(HaveOccurred())
	return handle
}, func(_ context.Context, data []byte) {
	handle, err := embedded.ParseHandle(data)
	Expect(err).NotTo(HaveOccurred())
	where, err = embedded.New(embedded.Config{
		Handle: handle, RunnerBinary: config.runner, ClientBinary: config.client, NVMLLibrary: config.nvml,
	})
	Expect(err).NotTo(HaveOccurred())
})

var _ = ReportAfterSuite("counts", func(report Report) {
	count := func(states types.SpecState) int {
		return report.SpecReports.WithLeafNodeType(types.NodeTypeIt).CountWithState(states)
	}
	fmt.Printf("\n%d passed, %d failed, %d skipped\n", count(types.SpecStatePassed), count(types.SpecStateFailureStates), count(types.SpecStateSkipped))
})
