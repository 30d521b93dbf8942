package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	authnv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/report"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// conditionSpecs are about what runners write on their pods, on a control plane
// alone: there the pods are objects that no kubelet minds, and each runner is a process
// with the token that its pod would have.
func conditionSpecs() {
	It("a runner shows on its pod what it does: few writes, the last one before its end, nothing without the right", Labels{"area:workloads", "row:81"},
		SpecTimeout(engine.Stretch(7*time.Minute)), SpecPriority(2), func(ctx SpecContext) {
			w := newWriter(ctx)
			said := w.start(ctx, "a")

			By("working without the right, which is said once")
			w.submit(ctx, []string{"first"}, "true")
			w.finished(ctx, 1)
			Eventually(ctx, said.text).Should(ContainSubstring(`cannot patch resource \"pods/status\"`))

			By("being given the right")
			Expect(w.kubectl.apply(ctx, "base", "components: [$DEPLOY/conditions]\n")).To(Succeed())
			w.wait(ctx, "condition="+api.ConditionDrained+"=false")
			w.wait(ctx, "condition="+api.ConditionDraining+"=false")
			w.wait(ctx, `jsonpath={.metadata.labels.studioml\.io/busy}=false`)
			Expect(strings.Count(said.text(), "the pod does not show")).To(Equal(1))

			By("trying what is forbidden")
			w.makePod(ctx, "b")
			tryForbidden(ctx, w.client, w.Client().Config, w.Namespace(), "b", "a")

			By("counting the writes of 1,000 tasks")
			changes := w.changes(ctx)
			seen := filepath.Join(GinkgoT().TempDir(), "busy")
			w.submit(ctx, []string{"looks"}, "sh", "-c", fmt.Sprintf(
				`KUBECONFIG=%s %s get pod a --output='jsonpath={.metadata.labels.studioml\.io/busy}' >%s`, w.kubectl.kubeconfig, w.kubectl.program, seen))
			w.finished(ctx, 2)
			Expect(os.ReadFile(seen)).To(BeEquivalentTo("true"), "the pod is busy before its first task begins")
			var ids []string
			for i := range 1000 {
				ids = append(ids, fmt.Sprintf("task-%d", i))
			}
			w.submit(ctx, ids, "true")
			w.finished(ctx, 1002)
			w.wait(ctx, `jsonpath={.metadata.labels.studioml\.io/busy}=false`)
			Expect(changes()).To(And(BeNumerically(">=", 2), BeNumerically("<=", 4)))

			By("draining for a reason")
			w.state(ctx, "DrainAndSuspend", "kernel upgrade")
			w.wait(ctx, "condition="+api.ConditionDrained)
			pod := w.pod(ctx)
			Expect(pod.Labels).To(HaveKeyWithValue(api.LabelPhase, "Suspended"))
			drained := condition(pod, api.ConditionDrained)
			Expect(drained.Reason).To(Equal("DrainAndSuspend"))
			Expect(drained.Message).To(Equal("the global map says DrainAndSuspend; kernel upgrade"))
			var status api.Status
			Expect(json.Unmarshal([]byte(pod.Annotations[api.AnnotationStatus]), &status)).To(Succeed())
			Expect(status.Maps.Global.ResourceVersion).To(Equal(w.version(ctx)))
			// Events go a way of their own.
			eventually(ctx, w.do).WithArguments(ctx, "get", "events.events.k8s.io", "--field-selector=reason=StateTransition",
				`--output=jsonpath={range .items[*]}{.regarding.kind}/{.regarding.name} {.action} {.related.name}/{.related.resourceVersion} {.note}{"\n"}{end}`).Should(
				MatchRegexp(`Pod/a Suspend studioml-go-runner/%[1]s \w+ to Suspended, source global, version %[1]s, because: kernel upgrade, runner a\n`, w.version(ctx)))

			By("ending")
			w.state(ctx, "DrainAndTerminate", "rack 7 goes")
			Eventually(ctx, said.ended).Should(Receive(HaveField("Message", "drained because the global map says DrainAndTerminate: rack 7 goes")))
			pod = w.pod(ctx) // at once: nobody is left to write
			Expect(pod.Labels).To(And(HaveKeyWithValue(api.LabelPhase, "Terminated"), HaveKeyWithValue(api.LabelBusy, "false")))
			Expect(condition(pod, api.ConditionDrained)).To(And(HaveField("Status", corev1.ConditionTrue), HaveField("Reason", "DrainAndTerminate")))
			w.wait(ctx, "condition="+api.ConditionDrained)
		})
}

// writer is a place in which one runner, a, writes on a pod.
type writer struct {
	targets.Env
	kubectl
	client  kubernetes.Interface
	runners map[string]targets.Runner
}

func newWriter(ctx SpecContext) *writer {
	GinkgoHelper()
	name := CurrentSpecReport().LeafNodeText
	env := isolate(ctx, targets.Isolation{Name: name, Needs: []scenario.Need{scenario.NeedKubectl}, Evidence: report.Evidence(config.artifacts, "workloads", name)})
	DeferCleanup(func(ctx SpecContext) { Expect(env.Close(ctx)).To(Succeed()) }, NodeTimeout(engine.Stretch(cleanupTime)))
	DeferOnFailure(func(ctx SpecContext) {
		if err := env.Collect(ctx); err != nil {
			AddReportEntry("evidence incomplete", err.Error())
		}
	}, NodeTimeout(engine.Stretch(cleanupTime)))
	w := &writer{Env: env, runners: map[string]targets.Runner{}}
	var err error
	w.kubectl, err = newKubectl(env.Namespace())
	Expect(err).NotTo(HaveOccurred())
	shell, err := env.(targets.KubectlControl).Shell()
	Expect(err).NotTo(HaveOccurred())
	w.kubectl.kubeconfig = strings.TrimPrefix(shell[0], "KUBECONFIG=")
	w.client, err = kubernetes.NewForConfig(env.Client().Config)
	Expect(err).NotTo(HaveOccurred())
	return w
}

const account = "studio-go-runner"

func (w *writer) makePod(ctx context.Context, name string) *corev1.Pod {
	GinkgoHelper()
	pod, err := w.client.CoreV1().Pods(w.Namespace()).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app.kubernetes.io/name": account},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: "job", UID: "1", Controller: new(true)}}},
		Spec: corev1.PodSpec{ServiceAccountName: account, Containers: []corev1.Container{{Name: "runner", Image: "example/runner"}}},
	}, metav1.CreateOptions{})
	Expect(err).NotTo(HaveOccurred())
	pod.Status.Phase, pod.Status.Conditions = corev1.PodRunning, []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}
	pod, err = w.client.CoreV1().Pods(w.Namespace()).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	Expect(err).NotTo(HaveOccurred())
	return pod
}

// start starts a runner with the token of a pod.
func (w *writer) start(ctx context.Context, name string) *listener {
	GinkgoHelper()
	pod := w.makePod(ctx, name)
	file := filepath.Join(GinkgoT().TempDir(), "kubeconfig")
	w.writeKubeconfig(file, podToken(ctx, w.client, pod))
	l := &listener{ended: make(chan targets.Exit, 1)}
	var err error
	w.runners[name], err = w.StartRunner(ctx, targets.RunnerSpec{Name: name, Runner: scenario.Runner{Slots: 8, Flags: map[scenario.Flag]string{
		"kubeconfig": file, "pod-name": name, "pod-uid": string(pod.UID), "log-level": "info",
	}}}, l)
	Expect(err).NotTo(HaveOccurred())
	return l
}

func (w *writer) writeKubeconfig(file, token string) {
	GinkgoHelper()
	admin, err := clientcmd.LoadFromFile(w.kubectl.kubeconfig)
	Expect(err).NotTo(HaveOccurred())
	for _, user := range admin.AuthInfos {
		user.Token = token
	}
	Expect(clientcmd.WriteToFile(*admin, file)).To(Succeed())
}

// podToken is what the kubelet would give to a pod.
func podToken(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod) string {
	GinkgoHelper()
	request, err := client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, &authnv1.TokenRequest{
		Spec: authnv1.TokenRequestSpec{BoundObjectRef: &authnv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}},
	}, metav1.CreateOptions{})
	Expect(err).NotTo(HaveOccurred())
	return request.Status.Token
}

func (w *writer) submit(ctx context.Context, ids []string, command ...string) {
	GinkgoHelper()
	var tasks []api.Task
	for _, id := range ids {
		tasks = append(tasks, api.Task{ID: id, Command: command[0], Args: command[1:], MaxAttempts: 1})
	}
	Expect(w.Env.Submit(ctx, tasks)).To(Succeed())
}

func (w *writer) finished(ctx context.Context, n int) {
	GinkgoHelper()
	Eventually(ctx, func(ctx context.Context) (int, error) {
		contents, err := w.Queue(ctx)
		return len(contents.In(api.TaskFinished)), err
	}).WithArguments(ctx).WithTimeout(engine.Stretch(5 * time.Minute)).WithPolling(time.Second).Should(Equal(n))
}

func (w *writer) do(ctx context.Context, args ...string) string {
	GinkgoHelper()
	out, err := w.try(ctx, nil, args...)
	Expect(err).NotTo(HaveOccurred())
	return out
}

// wait has kubectl wait for something about the runner's pod.
func (w *writer) wait(ctx context.Context, what string) {
	GinkgoHelper()
	w.do(ctx, "wait", "--for="+what, timeout(), "pod/a")
}

func (w *writer) state(ctx context.Context, state, reason string) {
	GinkgoHelper()
	text := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, annotations: {%s: %s}}\ndata: {STATE: %s}\n", api.GlobalMapName, api.AnnotationReason, reason, state)
	_, err := w.try(ctx, []byte(text), "apply", "-f", "-")
	Expect(err).NotTo(HaveOccurred())
}

func (w *writer) version(ctx context.Context) string {
	GinkgoHelper()
	return w.do(ctx, "get", "configmap", api.GlobalMapName, "--output=jsonpath={.metadata.resourceVersion}")
}

func (w *writer) pod(ctx context.Context) *corev1.Pod {
	GinkgoHelper()
	pod, err := w.client.CoreV1().Pods(w.Namespace()).Get(ctx, "a", metav1.GetOptions{})
	Expect(err).NotTo(HaveOccurred())
	return pod
}

// changes counts how often the pod changes from now on, up to what it is when that is
// asked for.
func (w *writer) changes(ctx context.Context) (count func() int) {
	GinkgoHelper()
	pods := w.client.CoreV1().Pods(w.Namespace())
	changed, err := pods.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=a", ResourceVersion: w.pod(ctx).ResourceVersion})
	Expect(err).NotTo(HaveOccurred())
	return func() (n int) {
		GinkgoHelper()
		defer changed.Stop()
		for last := w.pod(ctx).ResourceVersion; ; {
			var event watch.Event
			Eventually(ctx, changed.ResultChan()).Should(Receive(&event))
			n++
			if pod, ok := event.Object.(*corev1.Pod); !ok || pod.ResourceVersion == last {
				return n
			}
		}
	}
}

func condition(pod *corev1.Pod, kind string) corev1.PodCondition {
	for _, c := range pod.Status.Conditions {
		if string(c.Type) == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

// listener keeps what a runner logs, and how it ends.
type listener struct {
	ended chan targets.Exit

	mu  sync.Mutex
	log strings.Builder
}

func (l *listener) Status(api.Status)   {}
func (l *listener) Trouble(error)       {}
func (l *listener) Exit(e targets.Exit) { l.ended <- e }
func (l *listener) Log(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log.WriteString(line + "\n")
}

func (l *listener) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.String()
}

// tryForbidden tries, with the token of a pod, what the right to write into the status of
// pods gives, but for what a runner needs.
func tryForbidden(ctx context.Context, admin kubernetes.Interface, config *rest.Config, namespace, own, other string) {
	GinkgoHelper()
	pods := admin.CoreV1().Pods(namespace)
	get := func(name string) *corev1.Pod {
		GinkgoHelper()
		pod, err := pods.Get(ctx, name, metav1.GetOptions{})
		Expect(err).NotTo(HaveOccurred())
		return pod
	}
	before := get(own)
	unbound, err := admin.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, before.Spec.ServiceAccountName, &authnv1.TokenRequest{}, metav1.CreateOptions{})
	Expect(err).NotTo(HaveOccurred())
	tried := func(token, name string, kind types.PatchType, patch string, options metav1.PatchOptions, part string) error {
		speaks := rest.AnonymousClientConfig(config)
		speaks.BearerToken = token
		client, err := kubernetes.NewForConfig(speaks)
		if err == nil {
			_, err = client.CoreV1().Pods(namespace).Patch(ctx, name, kind, []byte(patch), options, part)
		}
		return err
	}
	patch := func(token, name, patch string) error {
		return tried(token, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	}
	token := podToken(ctx, admin, before)
	const mine = `{"metadata":{"labels":{"studioml.io/tried":"yes"},"annotations":{"studioml.io/tried":"yes","controller.kubernetes.io/pod-deletion-cost":"1"}},
		"status":{"conditions":[{"type":"studioml.io/Tried","status":"True"}]}}`
	// Right and policy take a moment to be in force.
	eventually(ctx, patch).WithArguments(unbound.Status.Token, own, mine).Should(MatchError(ContainSubstring("no pod but its own")))
	for what, patched := range map[string]string{
		"whether it is ready": `{"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}}`,
		"no longer":           `{"status":{"conditions":[{"$patch":"delete","type":"Ready"}]}}`,
		"a condition":         `{"status":{"conditions":[{"type":"example.com/studioml.io","status":"True"}]}}`,
		"where it is":         `{"status":{"podIP":"10.9.9.9","podIPs":[{"$patch":"replace"},{"ip":"10.9.9.9"}]}}`,
		"that it has ended":   `{"status":{"phase":"Failed"}}`,
		"and why":             `{"status":{"reason":"Evicted","message":"x"}}`,
		"since when":          `{"status":{"startTime":"2020-01-01T00:00:00Z"}}`,
		"another label":       `{"metadata":{"labels":{"app.kubernetes.io/name":"other"}}}`,
		"no label":            `{"metadata":{"labels":{"app.kubernetes.io/name":null}}}`,
		"no labels at all":    `{"metadata":{"labels":null}}`,
		"a new label":         `{"metadata":{"labels":{"app":"other"}}}`,
		"a cost as a label":   `{"metadata":{"labels":{"controller.kubernetes.io/pod-deletion-cost":"1"}}}`,
		"another annotation":  `{"metadata":{"annotations":{"example.com/x":"y"}}}`,
		"a finalizer":         `{"metadata":{"finalizers":["example.com/x"]}}`,
		"its containers":      `{"status":{"containerStatuses":[{"name":"runner","image":"x","imageID":"y","ready":true}]}}`,
		"others in it":        `{"status":{"ephemeralContainerStatuses":[{"name":"x","image":"x","imageID":"y"}]}}`,
		"what it was given":   `{"status":{"resize":"Deferred"}}`,
		"no status at all":    `{"status":null}`,
		"all labels anew":     `{"metadata":{"labels":{"$patch":"replace","studioml.io/tried":"yes"}}}`,
	} {
		Expect(patch(token, own, patched)).To(MatchError(ContainSubstring("a runner may")), what)
		Expect(tried(token, own, types.StrategicMergePatchType, patched, metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}, "status")).
			To(MatchError(ContainSubstring("a runner may")), "%s, as a trial", what)
	}
	By("trying it in other ways")
	const where = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q},"status":{"podIP":"10.9.9.9","podIPs":[{"ip":"10.9.9.9"}]}}`
	force := metav1.PatchOptions{FieldManager: "x", Force: new(true)}
	for what, err := range map[string]error{
		"a merge":            tried(token, own, types.MergePatchType, `{"status":{"conditions":null,"podIP":"10.9.9.9"}}`, metav1.PatchOptions{}, "status"),
		"all conditions":     tried(token, own, types.MergePatchType, `{"status":{"conditions":[{"type":"studioml.io/Tried","status":"True"}]}}`, metav1.PatchOptions{}, "status"),
		"operations":         tried(token, own, types.JSONPatchType, `[{"op":"replace","path":"/status/phase","value":"Succeeded"}]`, metav1.PatchOptions{}, "status"),
		"an apply":           tried(token, own, types.ApplyPatchType, fmt.Sprintf(where, own), force, "status"),
		"another's by apply": tried(token, other, types.ApplyPatchType, fmt.Sprintf(where, other), force, "status"),
	} {
		Expect(err).To(MatchError(ContainSubstring("a runner may")), what)
	}
	for _, part := range []string{"", "resize", "ephemeralcontainers"} { // of which the right says nothing
		Expect(tried(token, own, types.StrategicMergePatchType, mine, metav1.PatchOptions{}, part)).To(MatchError(ContainSubstring("forbidden")), part)
	}
	Expect(tried(token, "nobody", types.ApplyPatchType, fmt.Sprintf(where, "nobody"), force, "status")).NotTo(Succeed())
	Expect(patch(token, other, mine)).To(MatchError(ContainSubstring("no pod but its own")))
	// Of these Kubernetes itself keeps what there was.
	Expect(patch(token, own, `{"metadata":{"ownerReferences":null}}`)).To(Or(Succeed(), MatchError(ContainSubstring("a runner may"))))
	Expect(patch(token, own, `{"spec":{"activeDeadlineSeconds":1}}`)).To(Or(Succeed(), MatchError(ContainSubstring("a runner may"))))
	after := get(own)
	Expect(after.OwnerReferences).To(Equal(before.OwnerReferences))
	Expect(after.Spec).To(Equal(before.Spec))
	Expect(after.Labels).To(Equal(before.Labels))
	Expect(after.Status.PodIP).To(Equal(before.Status.PodIP))
	Expect(condition(after, "Ready")).To(Equal(condition(before, "Ready")))

	Expect(patch(token, own, mine)).To(Succeed())
	Expect(condition(get(own), "studioml.io/Tried").Status).To(Equal(corev1.ConditionTrue))
}
