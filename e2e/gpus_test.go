package e2e_test

import (
	"context"
	"slices"
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

	It("a fatal Xid on a GPU that the kubelet gives away: allocatable goes down, the runner takes it out, its task runs again", rows(60), limit, Serial, func(ctx SpecContext) {
		f := newFleet(ctx, scenario.NeedGPUs)
		f.state(ctx, api.GlobalMapName, "Running")
		f.applyWith(ctx, "statefulset", onFakeGPUs,
			"\n- {op: replace, path: /spec/template/spec/containers/0/resources/limits, value: {nvidia.com/gpu: 2}}\n- {op: replace, path: /spec/replicas, value: 1}\n")
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running"))
		pod := f.runners(ctx)[0]
		f.submitOn(1, "held", 1)
		eventually(ctx, func() int { return len(f.started("held")) }).Should(Equal(1))
		gpu := f.started("held")[0].GPUs

		allocatable := func(ctx context.Context) int { return f.allocatableGPUs(ctx, pod.Spec.NodeName) }
		all := allocatable(ctx)
		plugin := kubectl{f.program, fakeNamespace, f.kubeconfig}
		daemon, err := plugin.try(ctx, nil, "get", "pods", "--field-selector=spec.nodeName="+pod.Spec.NodeName, "--output=jsonpath={.items[0].metadata.name}")
		Expect(err).NotTo(HaveOccurred())
		fakegpu := func(ctx context.Context, words ...string) {
			_, err := plugin.try(ctx, nil, slices.Concat([]string{"exec", daemon, "--container=device-plugin", "--", "fakegpu"}, words)...)
			Expect(err).NotTo(HaveOccurred())
		}
		DeferCleanup(func(ctx SpecContext) {
			fakegpu(ctx, "heal", fakeStateDir, "all")
			// The plugin takes no GPU back, so it begins anew.
			_, err := plugin.try(ctx, nil, "delete", "pod", daemon)
			Expect(err).NotTo(HaveOccurred())
			eventually(ctx, allocatable).WithArguments(ctx).Should(Equal(all))
		}, NodeTimeout(engine.Stretch(2*cleanupTime)))
		fakegpu(ctx, "inject", "xid", fakeStateDir, gpu, "79")
		eventually(ctx, allocatable).WithArguments(ctx).ShouldNot(Equal(all))
		// It runs again on the other one.
		eventually(ctx, func() int { return len(f.started("held")) }).Should(Equal(2))
		Expect(f.started("held")[1].GPUs).NotTo(Equal(gpu))
		Expect(f.Release(ctx, "held")).To(Succeed())
		f.settled(ctx)
		status, err := f.status(ctx, pod.Name)
		Expect(err).NotTo(HaveOccurred())
		Expect(status.Tasks.MachineFailed).To(Equal(1))
	})
}

// onFakeGPUs has a workload see the fake GPUs of the nodes.
const onFakeGPUs = "- $DEPLOY/fake-gpu/workload\n"

// fakeStateDir is where runner/deploy/fake-gpu has the state of a node's GPUs.
const fakeStateDir = "/var/lib/fakegpu/state"
