package e2e_test

import (
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

// gpuSpecs are those about GPUs that the kubelet gives away.
func gpuSpecs() {
	limit := SpecTimeout(engine.Stretch(5 * time.Minute))

	It("GPUs of NVIDIA's device plugin: a runner has those that the kubelet allocated", rows(58), limit, func(ctx SpecContext) {
		f := newFleet(ctx, scenario.NeedGPUs)
		f.state(ctx, api.GlobalMapName, "Running")
		f.applyWith(ctx, "statefulset", onFakeGPUs, "\n- {op: replace, path: /spec/template/spec/containers/0/resources/limits, value: {nvidia.com/gpu: 2}}\n")
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running", "Running"))
		seen := map[string]string{}
		for _, pod := range f.runners(ctx) {
			status, err := f.status(ctx, pod.Name)
			Expect(err).NotTo(HaveOccurred())
			var has []string
			for _, gpu := range status.GPUs {
				has = append(has, gpu.UUID)
				Expect(seen).NotTo(HaveKey(gpu.UUID), "%s and %s share a GPU", seen[gpu.UUID], pod.Name)
				seen[gpu.UUID] = pod.Name
			}
			allocated := strings.Split(strings.TrimSpace(f.do(ctx, "exec", pod.Name, "--", "printenv", "NVIDIA_VISIBLE_DEVICES")), ",")
			Expect(has).To(ConsistOf(allocated), "GPUs of %s", pod.Name)
			Expect(has).To(HaveLen(2))
		}
	})
}

// onFakeGPUs has a workload see the fake GPUs of the nodes.
const onFakeGPUs = "- $DEPLOY/fake-gpu/workload\n"

// fakeStateDir is where runner/deploy/fake-gpu has the state of a node's GPUs.
const fakeStateDir = "/var/lib/fakegpu/state"
