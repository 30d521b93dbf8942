package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// nodeSpecs need a cluster of one's own, as spareSpecs, gpuSpecs, outageSpecs and
// imageSpecs do: they make things that belong to the whole cluster.
func nodeSpecs() {
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

	It("the reference document's cluster-admin for the default service account goes on to work", rows(57), limit, func(ctx SpecContext) {
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
				f.do(ctx, "wait", "--for=condition=ready", timeout(), "pod/"+pod.Name) // the kubelet has nothing more to write
				tryForbidden(ctx, f.client, f.Client().Config, f.Namespace(), pod.Name, ended.Name)
			}
		}
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

	// Elsewhere runners in pods have their queue in a server.
	It("a queue in a directory: the shipped Job has it in a volume that its runners share", Labels{"area:workloads"}, limit, func(ctx SpecContext) {
		const class, dir = "spool", "/var/lib/spool"
		f := newFleet(ctx)
		workers := nodes.Workers()
		Expect(nodes.Run(ctx, workers[0], "install", "--directory", "--mode=0777", dir)).To(Succeed())
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
		_, err := f.try(ctx, []byte(volume), "apply", "-f", "-")
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx SpecContext) { f.do(ctx, "delete", "persistentvolume", f.Namespace(), "--wait=false") }, NodeTimeout(engine.Stretch(cleanupTime)))
		f.state(ctx, api.GlobalMapName, "Running")
		// The class that counts here without a name gives no volume for many nodes.
		images := "images:\n" + image("studio-go-runner", config.image)
		Expect(f.kubectl.apply(ctx, "job", images)).To(Succeed())
		eventually(ctx, func(ctx context.Context) string {
			return f.do(ctx, "get", "events", "--field-selector=involvedObject.kind=PersistentVolumeClaim")
		}).WithArguments(ctx).Should(MatchRegexp("FailedBinding|ProvisioningFailed"))
		f.do(ctx, "delete", "persistentvolumeclaim", "studio-go-runner-spool")
		Expect(f.kubectl.apply(ctx, "job", images+`patches:
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
}

// apart has the runners of a workload on different nodes.
const apart = `
- {op: add, path: /spec/template/spec/topologySpreadConstraints, value: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app.kubernetes.io/name: studio-go-runner}}}]}
`
