package e2e_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

// oneOnSpare has a runner of a workload on the node that is kept for it, the first one,
// and the others elsewhere.
const oneOnSpare = apart + `- {op: add, path: /spec/template/spec/tolerations, value: [{key: studioml.io/spare, operator: Exists}]}
- {op: add, path: /spec/template/spec/affinity, value: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchExpressions: [{key: studioml.io/spare, operator: Exists}]}}]}}}
`

// spareSpecs drain, stop and spoil a node. They have one of their own, so that all
// others go on beside them, and take turns on it.
func spareSpecs() {
	limit := SpecTimeout(engine.Stretch(5 * time.Minute))

	Describe("on the spare node:", Ordered, ContinueOnFailure, SpecPriority(4), func() {
		It("kubectl drain of a node: runners end their tasks or give them back, and go on elsewhere", rows(52, 55), limit, func(ctx SpecContext) {
			f := newFleet(ctx)
			f.Repeats = "runners have 2 s to end"
			f.state(ctx, api.GlobalMapName, "Running")
			f.apply(ctx, "job", graceOf("2s"), oneOnSpare)
			f.submit(ctx, "held", 2)
			eventually(ctx, func() []string { return by(f.started("held")) }).Should(HaveLen(2))
			node := nodes.Spare()
			Expect(f.runnersOn(ctx, node)).To(HaveLen(1))
			DeferCleanup(func(ctx SpecContext) { f.do(ctx, "uncordon", node) }, NodeTimeout(engine.Stretch(cleanupTime)))
			f.do(ctx, "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", timeout(), "--pod-selector=app.kubernetes.io/name=studio-go-runner")
			for _, pod := range f.runnersOn(ctx, node) {
				Expect(pod.Status.Phase).NotTo(Equal(corev1.PodRunning), "pod %s is still on %s", pod.Name, node)
			}
			Expect(f.Release(ctx, "held")).To(Succeed())
			f.settled(ctx)
			Expect(f.job(ctx).Status.Failed).To(BeZero(), "an eviction is no failure")
			f.state(ctx, api.GlobalMapName, "DrainAndTerminate")
			f.do(ctx, "wait", "--for=condition=complete", timeout(), "job/studio-go-runner")
		})

		It("a node loses its power in the middle of a task and comes back: the task runs elsewhere, nothing is lost", rows(55), limit, func(ctx SpecContext) {
			f := newFleet(ctx)
			f.Repeats = "a node is lost"
			f.state(ctx, api.GlobalMapName, "Running")
			f.apply(ctx, "statefulset", oneOnSpare)
			f.submit(ctx, "held", 2) // one slot each
			victim := nodes.Spare()
			eventually(ctx, func() []string { return by(f.started("held")) }).Should(ConsistOf("studio-go-runner-0", "studio-go-runner-1"))
			lost, stays := "", ""
			for _, pod := range f.runners(ctx) {
				if pod.Spec.NodeName == victim {
					lost = pod.Name
				} else {
					stays = pod.Name
				}
			}
			Expect([]string{lost, stays}).To(ConsistOf("studio-go-runner-0", "studio-go-runner-1"))

			gpus := f.allocatableGPUs(ctx, victim)
			Expect(nodes.StopNode(ctx, victim)).To(Succeed())
			back := false
			start := func(ctx context.Context) {
				if !back {
					Expect(nodes.StartNode(ctx, f.client, victim)).To(Succeed())
					back = true
				}
				eventually(ctx, f.allocatableGPUs).WithArguments(ctx, victim).Should(Equal(gpus)) // the next spec may want them
			}
			DeferCleanup(func(ctx SpecContext) { start(ctx) }, NodeTimeout(engine.Stretch(2*cleanupTime)))
			Expect(f.Release(ctx, "held")).To(Succeed())
			f.settled(ctx) // both, while the node is away
			Expect(by(f.finished("held"))).To(HaveEach(stays))
			start(ctx)
			eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running", "Running"))
			f.submit(ctx, "held-after", 2)
			eventually(ctx, func() []string { return by(f.started("held-after")) }).Should(ConsistOf(lost, stays))
			Expect(f.Release(ctx, "held-after")).To(Succeed())
			f.settled(ctx)
		})

		It("a busy runner is not evicted by choice: an idle one goes at once, kubectl drain waits until the busy one has become idle", rows(84), limit, func(ctx SpecContext) {
			f := newFleet(ctx)
			f.state(ctx, api.GlobalMapName, "Running")
			f.applyWith(ctx, "job", withConditions, oneOnSpare)
			eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running", "Running"))
			node := nodes.Spare()
			for _, pod := range f.runners(ctx) {
				if pod.Spec.NodeName != node { // the one on the node is to be the busy one
					f.state(ctx, pod.Spec.Hostname, "DrainAndSuspend")
				}
			}
			eventually(ctx, f.phases).WithArguments(ctx).Should(ConsistOf("Running", "Suspended"))
			f.submit(ctx, "held", 1)
			busy, idle := f.oneBusy(ctx, 2)
			Expect(busy.Spec.NodeName).To(Equal(node))
			f.do(ctx, "delete", "configmap", idle[0].Spec.Hostname)
			f.do(ctx, "wait", "--for=condition=ready", timeout(), "pod/"+busy.Name) // before that, as when it has died, it may go
			Expect(f.evict(ctx, busy.Name)).To(MatchError(ContainSubstring("violate the pod's disruption budget")))
			Expect(f.evict(ctx, idle[0].Name)).To(Succeed())

			DeferCleanup(func(ctx SpecContext) { f.do(ctx, "uncordon", node) }, NodeTimeout(engine.Stretch(cleanupTime)))
			drain := []string{"drain", node, "--ignore-daemonsets", "--pod-selector=" + runnerLabel}
			_, err := f.try(ctx, nil, append(slices.Clone(drain), timeout())...)
			Expect(err).To(MatchError(ContainSubstring("use --delete-emptydir-data")), "else the documents are wrong")
			drain = append(drain, "--delete-emptydir-data")
			_, err = f.try(ctx, nil, append(slices.Clone(drain), "--timeout=20s")...)
			Expect(err).To(MatchError(ContainSubstring("violate the pod's disruption budget")))
			Expect(uids(f.runners(ctx))).To(ContainElement(string(busy.UID)))

			By("letting it become idle while kubectl drain waits")
			drained := make(chan error, 1)
			go func() {
				_, err := f.try(ctx, nil, append(drain, timeout())...)
				drained <- err
			}()
			f.state(ctx, busy.Spec.Hostname, "DrainAndSuspend")
			Expect(f.Release(ctx, "held")).To(Succeed())
			eventually(ctx, drained).Should(Receive(BeNil()))
			f.settled(ctx)
			Expect(f.started("held")).To(HaveLen(1), "its task was not ended by the drain")
			Expect(uids(f.runners(ctx))).NotTo(ContainElement(string(busy.UID)))
		})

		It("a fatal Xid on a GPU that the kubelet gives away: allocatable goes down, the runner takes it out, its task runs again", rows(60), limit, func(ctx SpecContext) {
			f := newFleet(ctx, scenario.NeedGPUs)
			f.state(ctx, api.GlobalMapName, "Running")
			f.applyWith(ctx, "statefulset", onFakeGPUs, oneOnSpare,
				"\n- {op: replace, path: /spec/template/spec/containers/0/resources/limits, value: {nvidia.com/gpu: 2}}\n- {op: replace, path: /spec/replicas, value: 1}\n")
			eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running"))
			pod := f.runners(ctx)[0]
			Expect(pod.Spec.NodeName).To(Equal(nodes.Spare()))
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

		It("the recipes for a node that goes: its runners drain, come back elsewhere, and go on", rows(83, 84), limit, func(ctx SpecContext) {
			const patch = "{op: replace, path: /spec/parallelism, value: 2}" // the last one of the document's Job
			r := newRecipes(ctx, nil, "$worker", patch, patch+strings.ReplaceAll(oneOnSpare, "\n- ", "\n    - "))
			DeferCleanup(func(ctx SpecContext) {
				r.kubectl.do(ctx, "uncordon", nodes.Spare())
				_, _ = r.kubectl.try(ctx, nil, "taint", "node", nodes.Spare(), "karpenter.sh/disrupted-") // it may be gone
			}, NodeTimeout(engine.Stretch(cleanupTime)))
			block := func(begin string) string {
				GinkgoHelper()
				text, err := blockOf(filepath.Join("..", "runner", "deploy", recipes), begin)
				Expect(err).NotTo(HaveOccurred())
				return r.says(text)
			}
			const both = `until [ "$(runners | wc -l)" = 2 ]; do sleep 2; done; runner wait --all --for=Running`
			_ = r.lines(document(recipes)) // for its files
			out := r.types(ctx, slices.Concat(functions.FindAllString(document(recipes), -1), []string{
				block("kubectl create namespace"), block("export STUDIOML_QUEUE='"), block("state() {"), both,
				"worker=" + nodes.Spare(), "[ " + nodeOfFirst + " = $worker ]",
				"for id in first second; do runner submit --id=$id -- sh -c 'until [ -e /tmp/go ]; do sleep 0.2; done; sleep 3'; done",
				"until [ $(runner tasks | grep -c Running) = 2 ]; do sleep 1; done",
				"for pod in $(runners); do kubectl exec $pod -- touch /tmp/go; done",
				block("follow() {"), both,
				"kubectl taint node $worker karpenter.sh/disrupted:NoSchedule; follow; drained spec.nodeName=$worker",
				"kubectl taint node $worker karpenter.sh/disrupted-; follow", both,
				block("node=worker-1"), block("kubectl drain"), block("kubectl delete configmap $names"), both,
				"runner tasks; kubectl get pods --field-selector=spec.nodeName!=$worker --output=name",
				"(runners() { echo pod/evicted; }; drained)", // nobody waits for it
			})...)
			Expect(out).To(And(
				MatchRegexp(`(?s)studio-go-runner-0 labeled\n.*Phase: +Suspended.*uncordoned\n`), // it may have had work till then
				MatchRegexp(`(?s)uncordoned\n.*configmap "studio-go-runner-0" deleted`),
				MatchRegexp(`(?m)^studio-go-runner-1 +Running +global +Running `),
				Not(ContainSubstring("configmap/studio-go-runner-1")),
				MatchRegexp(`(?m)^first +Finished +1 `), MatchRegexp(`(?m)^second +Finished +1 `),
				MatchRegexp(`(?s)pod/studio-go-runner-0-\w{5} evicted\n.*pod/studio-go-runner-0-\w{5}\npod/studio-go-runner-1-\w{5}\n`),
			))
		})
	})
}

// runnersOn are those on a node.
func (f *fleet) runnersOn(ctx context.Context, node string) []corev1.Pod {
	GinkgoHelper()
	return slices.DeleteFunc(f.runners(ctx), func(pod corev1.Pod) bool { return pod.Spec.NodeName != node })
}
