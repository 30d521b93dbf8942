package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/report"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// clusterSpecs are the specs that need a cluster of one's own: they drain and
// stop nodes, stop the API server, break GPUs that the kubelet gives away, and
// make things that belong to the whole cluster. Those that disturb others run
// alone.
func clusterSpecs() {
	limit := SpecTimeout(engine.Stretch(5 * time.Minute))

	It("hostNetwork: HOSTNAME is the node's name, and so is the node map's", rows(28), limit, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.do(ctx, "label", "--overwrite", "namespace", f.Namespace(), "pod-security.kubernetes.io/enforce=privileged")
		workers := nodes.Workers()
		f.state(ctx, workers[0], "DrainAndSuspend")
		f.apply(ctx, "deployment", `
- {op: add, path: /spec/template/spec/hostNetwork, value: true}
- {op: replace, path: /spec/template/spec/containers/0/ports, value: [{name: http, containerPort: 18080}]}
- {op: replace, path: /spec/template/spec/containers/0/args, value: [serve, "--listen=:18080"]}
- {op: add, path: /spec/template/spec/affinity, value: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app.kubernetes.io/name: studio-go-runner}}}]}}}
`)
		f.do(ctx, "rollout", "status", timeout(), "deployment/studio-go-runner")
		f.submit(ctx, "queued", 4)
		f.settled(ctx)
		Expect(by(f.started("queued"))).To(HaveEach(workers[1]))
	})

	It("the reference document's cluster-admin for the default service account goes on to work", rows(57), limit, Serial, func(ctx SpecContext) {
		f := newFleet(ctx)
		// As the document types it, but for its namespace, which is "default".
		f.do(ctx, "create", "clusterrolebinding", "default-cluster-admin", "--clusterrole=cluster-admin", "--serviceaccount="+f.Namespace()+":default")
		DeferCleanup(func(ctx SpecContext) { f.do(ctx, "delete", "clusterrolebinding", "default-cluster-admin") }, NodeTimeout(engine.Stretch(cleanupTime)))
		f.state(ctx, api.GlobalMapName, "DrainAndSuspend")
		f.apply(ctx, "deployment", "\n- {op: replace, path: /spec/template/spec/serviceAccountName, value: default}\n- {op: replace, path: /spec/replicas, value: 1}\n")
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Suspended"))
		f.submit(ctx, "queued", 1)
		f.state(ctx, api.GlobalMapName, "Running")
		f.settled(ctx)
	})

	It("runners show on their pods what they do, kubectl waits for it, and no pod may say more", rows(81, 82), limit, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.state(ctx, api.GlobalMapName, "Running")
		f.applyWith(ctx, "job", "- $DEPLOY/conditions\n")
		eventually(ctx, func(ctx context.Context) int { return len(f.runners(ctx)) }).WithArguments(ctx).Should(Equal(2))
		pods := f.runners(ctx)
		for _, pod := range pods {
			f.do(ctx, "wait", "--for=condition="+api.ConditionDrained+"=false", timeout(), "pod/"+pod.Name)
		}
		f.submit(ctx, "held", 2)
		for _, pod := range pods {
			f.do(ctx, "wait", `--for=jsonpath={.metadata.labels.studioml\.io/busy}=true`, timeout(), "pod/"+pod.Name)
		}

		By("draining the first one")
		f.do(ctx, "create", "configmap", "studio-go-runner-0", "--from-literal=STATE=DrainAndTerminate")
		f.do(ctx, "annotate", "configmap", "studio-go-runner-0", api.AnnotationReason+"=kernel upgrade")
		f.do(ctx, "wait", "--for=condition="+api.ConditionDraining, timeout(), "pod/"+pods[0].Name)
		eventually(ctx, func(ctx context.Context) string {
			return f.do(ctx, "get", "pods", "--selector="+api.LabelPhase+"=Draining,"+api.LabelBusy+"=true", "--output=name")
		}).WithArguments(ctx).Should(Equal("pod/" + pods[0].Name + "\n"))
		Expect(f.Release(ctx, "held")).To(Succeed())
		f.do(ctx, "wait", "--for=condition="+api.ConditionDrained, timeout(), "pod/"+pods[0].Name)
		f.do(ctx, "wait", "--for=jsonpath={.status.phase}=Succeeded", timeout(), "pod/"+pods[0].Name)
		ended, err := f.client.CoreV1().Pods(f.Namespace()).Get(ctx, pods[0].Name, metav1.GetOptions{})
		Expect(err).NotTo(HaveOccurred())
		Expect(condition(ended, api.ConditionDrained)).To(And(HaveField("Status", corev1.ConditionTrue), HaveField("Reason", "DrainAndTerminate"),
			HaveField("Message", ContainSubstring("kernel upgrade"))), "what the kubelet writes leaves it alone")
		Expect(ended.Status.ContainerStatuses).To(ContainElement(HaveField("State.Terminated.Message", ContainSubstring("the node map says DrainAndTerminate: kernel upgrade"))))

		By("ending the other one, whose pod is on its way out")
		f.do(ctx, "delete", "pod", "--wait=false", pods[1].Name)
		f.settled(ctx)

		By("trying what is forbidden")
		eventually(ctx, f.phases).WithArguments(ctx).Should(ContainElement("Running"))
		for _, pod := range f.runners(ctx) {
			if pod.Status.Phase == corev1.PodRunning {
				f.do(ctx, "wait", "--for=condition="+api.ConditionDrained+"=false", timeout(), "pod/"+pod.Name)
				tryForbidden(ctx, f.client, f.Client().RESTConfig(), f.Namespace(), pod.Name, ended.Name)
			}
		}
	})

	It("kubectl drain of a node: runners end their tasks or give them back, and go on elsewhere", rows(52, 55), limit, Serial, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.Repeats = "runners have 2 s to end"
		f.state(ctx, api.GlobalMapName, "Running")
		f.apply(ctx, "job", graceOf("2s"))
		f.submit(ctx, "held", 2)
		eventually(ctx, func() []string { return by(f.started("held")) }).Should(HaveLen(2))
		node := f.runners(ctx)[0].Spec.NodeName
		DeferCleanup(func(ctx SpecContext) { f.do(ctx, "uncordon", node) }, NodeTimeout(engine.Stretch(cleanupTime)))
		f.do(ctx, "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", timeout(), "--pod-selector=app.kubernetes.io/name=studio-go-runner")
		for _, pod := range f.runners(ctx) {
			Expect(pod.Spec.NodeName == node && pod.Status.Phase == corev1.PodRunning).To(BeFalse(), "pod %s is still on %s", pod.Name, node)
		}
		Expect(f.Release(ctx, "held")).To(Succeed())
		f.settled(ctx)
		Expect(f.job(ctx).Status.Failed).To(BeZero(), "an eviction is no failure")
		f.state(ctx, api.GlobalMapName, "DrainAndTerminate")
		f.do(ctx, "wait", "--for=condition=complete", timeout(), "job/studio-go-runner")
	})

	It("the budget: of two runners one can be evicted, and the other one not before that is back", rows(55), limit, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.state(ctx, api.GlobalMapName, "Running")
		f.apply(ctx, "job", graceOf("2s"))
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running", "Running"))
		pods := f.runners(ctx)
		evict := func(ctx context.Context, pod string) error {
			text := fmt.Sprintf(`{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": %q}}`, pod)
			_, err := f.try(ctx, []byte(text), "create", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/eviction", f.Namespace(), pod), "-f", "-")
			return err
		}
		// The budget takes a moment to see that both are ready.
		eventually(ctx, evict).WithArguments(ctx, pods[0].Name).Should(Succeed())
		Expect(evict(ctx, pods[1].Name)).To(MatchError(ContainSubstring("violate the pod's disruption budget")))
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running", "Running"))
		eventually(ctx, evict).WithArguments(ctx, pods[1].Name).Should(Succeed())
	})

	It("pods of different nodes reach each other, by address and by name", Labels{"area:workloads"}, limit, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.state(ctx, api.GlobalMapName, "DrainAndSuspend")
		f.apply(ctx, "statefulset", apart)
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Suspended", "Suspended"))
		pods := f.runners(ctx)
		Expect(pods[0].Spec.NodeName).NotTo(Equal(pods[1].Spec.NodeName))
		f.do(ctx, "expose", "pod", pods[1].Name, "--name=neighbour", "--port=80", "--target-port=http")
		for _, address := range []string{pods[1].Status.PodIP + ":8080", "neighbour:80", "neighbour." + f.Namespace() + ".svc.cluster.local:80"} {
			eventually(ctx, func(ctx context.Context) (string, error) {
				return f.try(ctx, nil, "exec", pods[0].Name, "--", "runner", "status", "--address="+address)
			}).Should(ContainSubstring(pods[1].Name), address)
		}
	})

	It("a node loses its power in the middle of a task and comes back: the task runs elsewhere, nothing is lost", rows(55), limit, Serial, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.Repeats = "a node is lost"
		f.state(ctx, api.GlobalMapName, "Running")
		workers := nodes.Workers()
		f.apply(ctx, "statefulset", apart)
		f.submit(ctx, "held", 2) // one slot each
		victim := workers[0]
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
				Expect(nodes.StartNode(ctx, victim)).To(Succeed())
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

	// Elsewhere runners in pods have their queue in a server.
	It("a queue in a directory: the shipped Job has it in a volume that its runners share", Labels{"area:workloads"}, limit, func(ctx SpecContext) {
		const class, dir = "spool", "/var/lib/spool"
		f := newFleet(ctx)
		workers := nodes.Workers()
		_, err := nodes.Run(ctx, workers[0], nil, "install", "--directory", "--mode=0777", dir)
		Expect(err).NotTo(HaveOccurred())
		volume := fmt.Sprintf(`apiVersion: v1
kind: PersistentVolume
metadata: {name: %s}
spec:
  accessModes: [ReadWriteMany]
  capacity: {storage: 10Gi}
  storageClassName: %s
  hostPath: {path: %s}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [%s]}]}]}}
`, f.Namespace(), class, dir, workers[0])
		_, err = f.try(ctx, []byte(volume), "apply", "-f", "-")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx SpecContext) { f.do(ctx, "delete", "persistentvolume", f.Namespace(), "--wait=false") }, NodeTimeout(engine.Stretch(cleanupTime)))
		f.state(ctx, api.GlobalMapName, "Running")
		Expect(f.kubectl.apply(ctx, "job", "images:\n"+image("studio-go-runner", config.image)+`patches:
- target: {kind: PersistentVolumeClaim}
  patch: "- {op: add, path: /spec/storageClassName, value: `+class+`}"
`)).To(Succeed())
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running", "Running"))
		pods := f.runners(ctx)
		on := func(ctx context.Context, pod int, words ...string) string {
			GinkgoHelper()
			return f.do(ctx, append([]string{"exec", pods[pod].Name, "--", "runner", words[0], "--spool=/spool"}, words[1:]...)...)
		}
		finished := func(ctx context.Context) []string {
			GinkgoHelper()
			var said struct {
				Queue struct{ Tasks targets.Contents }
			}
			Expect(json.Unmarshal([]byte(on(ctx, 1, "status", "--output=json")), &said)).To(Succeed())
			return said.Queue.Tasks.In(api.TaskFinished)
		}
		for n := range 4 {
			on(ctx, 0, "submit", fmt.Sprintf("--id=first-%d", n), "--", "true")
		}
		eventually(ctx, finished).WithArguments(ctx).Should(HaveLen(4))
		f.state(ctx, api.GlobalMapName, "DrainAndSuspend")
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Suspended", "Suspended"))
		on(ctx, 0, "submit", "--id=second", "--", "true")
		f.state(ctx, pods[1].Spec.Hostname, "Running")
		eventually(ctx, finished).WithArguments(ctx).Should(HaveLen(5))
		result := on(ctx, 0, "tasks", "second", "--output=json")
		Expect(result).To(ContainSubstring(pods[1].Spec.Hostname), "the other one is suspended")
	})

	// The last one: the controllers and the scheduler, which end without an API
	// server, take most of a minute to come back after it.
	It("the API server is stopped for a minute: runners go on, no pod is restarted, what changed is seen", rows(37, 39), limit, Serial, SpecPriority(-1), func(ctx SpecContext) {
		f := newFleet(ctx)
		f.state(ctx, api.GlobalMapName, "Running")
		f.apply(ctx, "deployment")
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running", "Running"))
		before := f.runners(ctx)
		// Two slots, and so two minutes and more of work.
		const count = 30
		var all []api.Task
		for n := range count {
			all = append(all, api.Task{ID: fmt.Sprintf("long-%d", n), Command: "/bin/sh", Args: []string{"-c", "sleep 6"}})
		}
		Expect(f.Env.Submit(ctx, all)).To(Succeed())
		finished := func(ctx context.Context) (int, error) {
			contents, err := f.Queue(ctx)
			return len(contents.In(api.TaskFinished)), err
		}
		eventually(ctx, finished).WithArguments(ctx).Should(BeNumerically(">", 0))
		done, err := finished(ctx)
		Expect(err).NotTo(HaveOccurred())

		Expect(stopAPIServer(ctx)).To(Succeed())
		DeferCleanup(func(ctx SpecContext) { Expect(startAPIServer(ctx)).To(Succeed()) }, NodeTimeout(engine.Stretch(2*cleanupTime)))
		// There is nothing to wait for but the minute: nobody in the cluster can be asked.
		minute := time.NewTimer(time.Minute)
		defer minute.Stop()
		select {
		case <-minute.C:
		case <-ctx.Done():
		}
		Expect(startAPIServer(ctx)).To(Succeed())
		// Ten tasks fit into the minute for each slot; all but those that were running
		// when it came back have ended without an API server.
		now := 0
		eventually(ctx, func(ctx context.Context) error {
			now, err = finished(ctx)
			return err
		}).WithArguments(ctx).Should(Succeed())
		Expect(now).To(BeNumerically(">=", done+10), "tasks went on during the outage")

		f.state(ctx, api.GlobalMapName, "DrainAndSuspend")
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Suspended", "Suspended"))
		after := f.runners(ctx)
		Expect(uids(after)).To(Equal(uids(before)))
		Expect(restarts(after)).To(BeZero())
		contents, err := f.Queue(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(append(contents.In(api.TaskFinished), contents.In(api.TaskWaiting)...)).To(HaveLen(count))
	})

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

	It("the tests as an image: a Job with a GPU plays scenarios on the cluster that it is in, and a pod of it gives a shell", Labels{"area:workloads", "document"}, SpecPriority(1), SpecTimeout(engine.Stretch(8*time.Minute)), func(ctx SpecContext) {
		workers := nodes.Workers()
		Expect(nodes.LoadArchive(ctx, filepath.Join("..", "bin", testsArchive), workers...)).To(Succeed())
		if config.postgres != "" { // its server of the queues is on a worker
			Expect(nodes.LoadArchive(ctx, filepath.Join("..", "bin", postgresArchive), workers...)).To(Succeed())
		}
		k, err := newKubectl("studio-go-runner-tests")
		Expect(err).NotTo(HaveOccurred())
		do := func(ctx context.Context, args ...string) string {
			GinkgoHelper()
			out, err := k.try(ctx, nil, args...)
			Expect(err).NotTo(HaveOccurred())
			return out
		}
		do(ctx, "create", "namespace", k.namespace)
		DeferCleanup(func(ctx SpecContext) {
			do(ctx, "delete", "namespace", "--wait=false", k.namespace)
			do(ctx, "delete", "--ignore-not-found", "clusterrole,clusterrolebinding", "studio-go-runner-tests")
		}, NodeTimeout(engine.Stretch(cleanupTime)))
		// Few scenarios, for it is the image that is tried: some of any kind, and one
		// whose runner asks for a GPU of the device plugin, as the tests' pod does.
		dir := GinkgoT().TempDir()
		typed := func(begin string, here ...string) string {
			GinkgoHelper()
			out, err := k.typed(ctx, dir, begin, here...)
			Expect(err).NotTo(HaveOccurred())
			return out
		}
		Expect(k.kustomize(dir, "tests", `
images: [{name: studio-go-runner-tests, newTag: e2e}]
patches:
- target: {kind: Job}
  patch: |
    - {op: add, path: /spec/template/spec/containers/0/env/-, value: {name: E2E_POSTGRES, value: "`+config.postgres+`"}}
    - {op: add, path: /spec/template/spec/containers/0/env/-, value: {name: E2E_TIME_FACTOR, value: "3"}}
    - {op: add, path: /spec/template/spec/containers/0/args, value: ["--label-filter=row: containsAny {2, 3, 46}"]}
`)).To(Succeed())
		evidence := report.Evidence(config.artifacts, "workloads", CurrentSpecReport().LeafNodeText)
		Expect(os.RemoveAll(evidence)).To(Succeed())
		DeferOnFailure(func(ctx SpecContext) {
			out, err := k.try(ctx, nil, "logs", "--tail=400", "job/studio-go-runner-tests")
			AddReportEntry("log of the tests in the cluster", fmt.Sprintln(out, err)) // one value
			objects, err := k.try(ctx, nil, "get", "jobs,pods,events", "--output=yaml")
			err = errors.Join(err, os.MkdirAll(evidence, 0o755), os.WriteFile(filepath.Join(evidence, "objects.yaml"), []byte(objects), 0o644))
			if err := errors.Join(err, collectNodes(ctx, evidence)); err != nil {
				AddReportEntry("evidence incomplete", err.Error())
			}
		}, NodeTimeout(engine.Stretch(cleanupTime)))
		log := typed("kubectl apply -k .                                # with resources")
		Expect(log).To(MatchRegexp(`(?m)^existing: ([3-9]|[1-9]\d+) passed, 0 failed`))
		AddReportEntry("counts in the cluster", regexp.MustCompile(`(?m)^existing: .*$`).FindString(log))
		do(ctx, "wait", "--for=condition=complete", timeout(), "job/studio-go-runner-tests")

		By("leaving the image asleep, for a shell")
		out := typed("kubectl run -n lab build", "example/tests:v1", "studio-go-runner-tests:e2e", "-it build -- run-tests --focus='two flips'",
			"build -- sh -c 'echo $NVIDIA_VISIBLE_DEVICES; E2E_POSTGRES="+config.postgres+" E2E_TIME_FACTOR=3 run-tests --focus=\"suspended at start\"'")
		Expect(out).To(And(MatchRegexp(`(?m)^GPU-`), ContainSubstring("existing: 1 passed, 0 failed")))
		typed("kubectl delete -k .")
		do(ctx, "get", "namespace", k.namespace) // which is not the tests' own
	})
}

// apart has the runners of a workload on different nodes.
const apart = `
- {op: add, path: /spec/template/spec/topologySpreadConstraints, value: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app.kubernetes.io/name: studio-go-runner}}}]}
`

// onFakeGPUs has a workload see the fake GPUs of the nodes.
const onFakeGPUs = "- $DEPLOY/fake-gpu/workload\n"

// fakeStateDir is where runner/deploy/fake-gpu has the state of a node's GPUs.
const fakeStateDir = "/var/lib/fakegpu/state"

// manifest is where kubeadm has the kubelet find the API server, and where it is
// while that is stopped.
const (
	manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml"
	away     = "/etc/kubernetes/kube-apiserver.yaml"
)

// stopAPIServer kills it, as a crash does, and waits until it is gone. Stopped
// with a signal, it would go on to serve its watches for its grace period, and
// take itself out of the Service of its kind first.
func stopAPIServer(ctx context.Context) error {
	return onControlPlane(ctx, `pkill -KILL -x kube-apiserver; mv "$1" "$2"; while pgrep -x kube-apiserver; do sleep 0.2; done`)
}

// startAPIServer has the kubelet start it again unless it runs, and waits until
// it is ready.
func startAPIServer(ctx context.Context) error {
	return onControlPlane(ctx, `if [ -e "$2" ]; then mv "$2" "$1"; fi
		until curl -ksSf --max-time 2 -o /dev/null https://127.0.0.1:6443/readyz 2>/dev/null; do sleep 0.2; done`)
}

// onControlPlane runs a script with the two places of the manifest.
func onControlPlane(ctx context.Context, script string) error {
	// What docker runs in a node goes on when docker is stopped, so it ends by itself.
	_, err := nodes.Run(ctx, nodes.ControlPlane(), nil, "timeout", "300", "sh", "-c", script, "sh", manifest, away)
	return err
}
