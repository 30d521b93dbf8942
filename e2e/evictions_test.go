package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/runner/api"
)

const (
	oneRunner = "\n- {op: replace, path: /spec/completions, value: 1}\n- {op: replace, path: /spec/parallelism, value: 1}\n"
	// withConditions has runners say on their pods whether they are busy.
	withConditions = "- $DEPLOY/conditions\n"
)

// evictionSpecs are about runners that are to go, by somebody's choice, or that end and
// are to come back: who goes, who waits, who is back when.
func evictionSpecs() {
	limit := SpecTimeout(engine.Stretch(5 * time.Minute))

	It("fewer runners: of a Deployment's the busy one stays", rows(84), limit, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.state(ctx, api.GlobalMapName, "Running")
		f.applyWith(ctx, "deployment", withConditions, "\n- {op: replace, path: /spec/replicas, value: 3}\n")
		f.submit(ctx, "held", 1)
		busy, _ := f.oneBusy(ctx, 3)
		f.do(ctx, "scale", "--replicas=1", "deployment/studio-go-runner")
		eventually(ctx, func(ctx context.Context) []string { return uids(f.runners(ctx)) }).WithArguments(ctx).Should(HaveExactElements(string(busy.UID)))
		Expect(f.Release(ctx, "held")).To(Succeed())
		f.settled(ctx)
		Expect(f.started("held")).To(HaveLen(1))
	})

	It("restart in place: 143, 10 and 11 start a runner again in its pod, 0 completes its index", rows(85), limit, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.Repeats = "runners end with work left"
		f.state(ctx, api.GlobalMapName, "Running")
		f.applyWith(ctx, "job", "- $DEPLOY/job/restart\n", oneRunner, graceOf("30s"))
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running"))
		pod := f.runners(ctx)[0]
		signal := func(ctx context.Context, script string) { // it may end before its runner has
			_, _ = f.try(ctx, nil, "exec", pod.Name, "--", "sh", "-c", script)
		}
		last := func(ctx context.Context) string {
			GinkgoHelper()
			pods := f.runners(ctx)
			Expect(uids(pods)).To(HaveExactElements(string(pod.UID)), "it is the same pod")
			s := pods[0].Status.ContainerStatuses[0]
			if s.LastTerminationState.Terminated == nil || s.State.Running == nil {
				return "not started again"
			}
			return fmt.Sprintf("restart %d after %d", s.RestartCount, s.LastTerminationState.Terminated.ExitCode)
		}
		signal(ctx, "kill -TERM 1")
		eventually(ctx, last).WithArguments(ctx).Should(Equal("restart 1 after 143"))

		By("letting the grace period pass, then hurrying it")
		f.submit(ctx, "held", 1)
		eventually(ctx, func() int { return len(f.started("held")) }).Should(Equal(1))
		signal(ctx, "kill -TERM 1")
		eventually(ctx, last).WithArguments(ctx).Should(Equal("restart 2 after 10"))
		eventually(ctx, func() int { return len(f.started("held")) }).Should(Equal(2))
		signal(ctx, "kill -TERM 1")
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Draining"), "the first one has come")
		signal(ctx, "sleep 1.5; kill -TERM 1") // within a second it would be the same
		eventually(ctx, last).WithArguments(ctx).Should(Equal("restart 3 after 11"))
		eventually(ctx, func() int { return len(f.started("held")) }).Should(Equal(3))
		Expect(by(f.started("held"))).To(HaveEach("studio-go-runner-0"), "it has its old name")

		By("draining it")
		Expect(f.Release(ctx, "held")).To(Succeed())
		f.settled(ctx)
		f.state(ctx, api.GlobalMapName, "DrainAndTerminate")
		f.do(ctx, "wait", "--for=condition=complete", timeout(), "job/studio-go-runner")
		Expect(f.job(ctx).Status).To(And(HaveField("Failed", int32(0)), HaveField("CompletedIndexes", "0")))
		Expect(f.runners(ctx)[0].Status.ContainerStatuses[0].RestartCount).To(BeEquivalentTo(3), "0 did not start it again")
	})

	It("a runner of a StatefulSet is evicted six times in a row, and is back within seconds each time", rows(52), limit, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.state(ctx, api.GlobalMapName, "Running")
		f.apply(ctx, "statefulset", "\n- {op: replace, path: /spec/replicas, value: 1}\n")
		var took []time.Duration
		whole := time.Duration(0)
		for range 6 {
			d := f.replaced(ctx).took
			took, whole = append(took, d.Round(time.Second)), whole+d
		}
		AddReportEntry("until there was a new pod", took)
		Expect(whole).To(BeNumerically("<", (10+20+40+80+160+320)*time.Second), "a Job would wait for longer")
		f.submit(ctx, "queued", 1)
		f.settled(ctx)
		Expect(by(f.started("queued"))).To(HaveExactElements("studio-go-runner-0"))
	})

	It("a runner of an Indexed Job is back under its old name, after twice the time with each eviction", rows(52), limit, SpecPriority(2), func(ctx SpecContext) {
		f := newFleet(ctx)
		f.state(ctx, api.GlobalMapName, "Running")
		f.apply(ctx, "job", oneRunner)
		for n, least := range []time.Duration{10 * time.Second, 20 * time.Second} {
			again := f.replaced(ctx)
			Expect(again.took).To(BeNumerically(">=", least-time.Second), "else runner/deploy/job is wrong") // times of objects have no fractions
			Expect(again.pod.Annotations).To(HaveKeyWithValue("batch.kubernetes.io/job-index-ignored-failure-count", strconv.Itoa(n+1)))
		}
		f.submit(ctx, "queued", 1)
		f.settled(ctx)
		Expect(by(f.started("queued"))).To(HaveExactElements("studio-go-runner-0"))
	})

	// Each node has room for one, as one with a GPU has for runners with GPUs.
	It("a rollout of a Deployment on a full cluster completes", rows(54), limit, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.state(ctx, api.GlobalMapName, "Running")
		f.apply(ctx, "deployment", `
- {op: add, path: /spec/template/spec/affinity, value: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app.kubernetes.io/name: studio-go-runner}}}]}}}
`)
		f.do(ctx, "rollout", "status", timeout(), "deployment/studio-go-runner")
		before := f.runners(ctx)
		f.do(ctx, "rollout", "restart", "deployment/studio-go-runner")
		f.do(ctx, "rollout", "status", timeout(), "deployment/studio-go-runner")
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running", "Running"))
		for _, uid := range uids(before) {
			Expect(uids(f.runners(ctx))).NotTo(ContainElement(uid))
		}
	})

	It("a namespace that is deleted with its Job goes once the Job is deleted", Labels{"area:workloads"}, limit, func(ctx SpecContext) {
		k, err := newKubectl("studio-go-runner-ending")
		Expect(err).NotTo(HaveOccurred())
		phases := func(ctx context.Context) string {
			return k.do(ctx, "get", "pods", "--output=jsonpath={.items[*].status.phase}")
		}
		k.do(ctx, "create", "namespace", k.namespace)
		DeferCleanup(func(ctx SpecContext) { // where it failed
			_, _ = k.try(ctx, nil, "delete", "job", "--all")
			_, _ = k.try(ctx, nil, "delete", "namespace", "--wait=false", k.namespace)
		}, NodeTimeout(engine.Stretch(cleanupTime)))
		Expect(k.apply(ctx, "job", "images:\n"+image("studio-go-runner", config.image)+`patches:
- target: {kind: Job}
  patch: "- {op: replace, path: /spec/template/spec/volumes/0, value: {name: spool, emptyDir: {}}}"
`)).To(Succeed())
		eventually(ctx, phases).WithArguments(ctx).Should(Equal("Running Running"))
		k.do(ctx, "delete", "namespace", "--wait=false", k.namespace)
		eventually(ctx, phases).WithArguments(ctx).ShouldNot(ContainSubstring("Running"))
		AddReportEntry("what the pods are while it hangs", phases(ctx))
		k.do(ctx, "delete", "job", "--all")
		k.do(ctx, "wait", "--for=delete", timeout(), "namespace/"+k.namespace)
	})
}

// oneBusy waits until one of so many runners says that it is busy, and the others that
// they are not.
func (f *fleet) oneBusy(ctx context.Context, runners int) (busy corev1.Pod, idle []corev1.Pod) {
	GinkgoHelper()
	want := append(slices.Repeat([]string{"false"}, runners-1), "true")
	eventually(ctx, func(ctx context.Context) (say []string) {
		idle = nil
		for _, pod := range f.runners(ctx) {
			is := pod.Labels[api.LabelBusy]
			if say = append(say, is); is == "true" {
				busy = pod
			} else {
				idle = append(idle, pod)
			}
		}
		return say
	}).WithArguments(ctx).Should(ConsistOf(want))
	return busy, idle
}

// evict does what kubectl drain does with a pod, once.
func (f *fleet) evict(ctx context.Context, pod string) error {
	text := fmt.Sprintf(`{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": %q}}`, pod)
	_, err := f.try(ctx, []byte(text), "create", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/eviction", f.Namespace(), pod), "-f", "-")
	return err
}

// replacement is a pod that was made in place of an evicted one, and after what time.
type replacement struct {
	pod  corev1.Pod
	took time.Duration
}

// replaced evicts the only runner once it works.
func (f *fleet) replaced(ctx context.Context) (r replacement) {
	GinkgoHelper()
	eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running"))
	before := f.runners(ctx)[0]
	began := time.Now()
	Expect(f.evict(ctx, before.Name)).To(Succeed())
	eventually(ctx, func(ctx context.Context) []string {
		pods := f.runners(ctx)
		if len(pods) == 1 {
			r.pod = pods[0]
		}
		return uids(pods)
	}).WithArguments(ctx).Should(And(HaveLen(1), Not(ContainElement(string(before.UID)))))
	r.took = r.pod.CreationTimestamp.Sub(began)
	return r
}
