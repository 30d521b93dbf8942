package e2e_test

import (
	"context"
	"encoding/json"
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

// config is how make calls the suite.
var config = struct {
	target    string // the kind of cluster; empty means that no scenario is run
	runner    string // the runner's binary
	client    string // the one for submits and looks into the queue
	nvml      string // the fake NVML library
	artifacts string // where failed scenarios leave their evidence
	keep      bool   // keep the evidence of all scenarios
}{
	os.Getenv("E2E_TARGET"), os.Getenv("E2E_RUNNER"), os.Getenv("E2E_CLIENT"), os.Getenv("E2E_NVML"),
	os.Getenv("E2E_ARTIFACTS"), os.Getenv("E2E_KEEP") != "",
}

// where is the target that the specs of this process use.
var where target.Target

func TestE2E(t *testing.T) {
	if config.target == "" {
		t.Skip("needs a control plane; run it with: make e2e")
	}
	if config.target != "embedded" {
		t.Fatalf("E2E_TARGET is %q, allowed is embedded", config.target)
	}
	scenarios, err := scenario.LoadDir(filepath.Join("..", "scenarios"))
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
