package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/report"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
	"github.com/studioml/studio-go-runner/e2e/targets/pods"
	"github.com/studioml/studio-go-runner/runner/api"
)

// fleet is one of the shipped workloads in a namespace of its own, steered with
// kubectl, as people do. What is looked at again and again is read without it.
type fleet struct {
	targets.Env
	kubectl
	*engine.Observation
	client kubernetes.Interface
	record *history.History
}

// patience is for what a cluster does with pods: to schedule, start, stop and
// replace them. What is asserted of a runner does not depend on it.
const patience = 2 * time.Minute

// newFleet makes a place; needs are those of a scenario.
func newFleet(ctx SpecContext, needs ...scenario.Need) *fleet {
	GinkgoHelper()
	evidence := report.Evidence(config.artifacts, "workloads", CurrentSpecReport().LeafNodeText)
	isolation := targets.Isolation{Name: CurrentSpecReport().LeafNodeText, Needs: needs, Evidence: evidence}
	if slices.Contains(needs, scenario.NeedGPUs) {
		isolation.GPUs = 2
	}
	env := isolate(ctx, isolation)
	f := &fleet{Env: env, record: history.New()}
	DeferCleanup(func(ctx SpecContext) { Expect(env.Close(ctx)).To(Succeed()) }, NodeTimeout(engine.Stretch(cleanupTime)))
	DeferOnFailure(func(ctx SpecContext) {
		if err := errors.Join(write(evidence, f.record), env.Collect(ctx)); err != nil {
			AddReportEntry("evidence incomplete", err.Error())
		}
	}, NodeTimeout(engine.Stretch(cleanupTime)))

	var err error
	f.kubectl, err = newKubectl(env.Namespace())
	Expect(err).NotTo(HaveOccurred())
	f.client, err = kubernetes.NewForConfig(env.Client().Config)
	Expect(err).NotTo(HaveOccurred())

	// The record goes on while the place is taken down.
	recording, cancel := context.WithCancel(context.Background())
	f.Observation, err = engine.Observe(recording, env, f.record)
	Expect(err).NotTo(HaveOccurred())
	var following sync.WaitGroup
	following.Go(func() { f.follow(recording) })
	DeferCleanup(func(ctx SpecContext) {
		passed := !ctx.SpecReport().Failed()
		if passed {
			Expect(f.Rules()).To(Succeed())
		}
		cancel()
		following.Wait()
		f.Close()
		if passed && !config.keep {
			Expect(os.RemoveAll(evidence)).To(Succeed())
		}
	})
	return f
}

// follow records what the runners' pods say, each from the moment that it answers,
// until ctx ends. One that is out of reach is followed again when it is back.
func (f *fleet) follow(ctx context.Context) {
	var followers sync.WaitGroup
	defer followers.Wait()
	var followed sync.Map // pods, by UID
	processes := map[string]int{}
	_ = wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		pods, err := f.client.CoreV1().Pods(f.Namespace()).List(ctx, metav1.ListOptions{LabelSelector: runnerLabel})
		if err != nil {
			return false, nil // the API server may be away
		}
		for _, pod := range pods.Items {
			if _, known := followed.LoadOrStore(pod.UID, true); known || pod.Status.Phase != corev1.PodRunning {
				if !known {
					followed.Delete(pod.UID)
				}
				continue
			}
			processes[pod.Name]++
			tells := history.Process{Record: f.record, Runner: pod.Name, Number: processes[pod.Name]}
			followers.Go(func() {
				defer followed.Delete(pod.UID)
				f.statuses(ctx, pod.Name, tells.Status)
			})
		}
		return false, nil
	})
}

// statuses calls each with what a pod says until it is out of reach.
func (f *fleet) statuses(ctx context.Context, pod string, each func(api.Status)) {
	stream, err := f.client.CoreV1().Pods(f.Namespace()).ProxyGet("http", pod, "8080", "statusz", map[string]string{"watch": "true"}).Stream(ctx)
	if err != nil {
		return
	}
	defer stream.Close()
	_, _ = place.Statuses(stream, 0, each)
}

// Close is that of the record; the place is closed on its own.
func (f *fleet) Close() { f.Observation.Close() }

// apply applies a shipped workload, with the tests' image and queue and what
// patches say.
func (f *fleet) apply(ctx context.Context, workload string, patches ...string) {
	GinkgoHelper()
	f.applyWith(ctx, workload, "", patches...)
}

// asJSON is for YAML, which reads it.
func asJSON(value any) string {
	GinkgoHelper()
	text, err := json.Marshal(value)
	Expect(err).NotTo(HaveOccurred())
	return string(text)
}

// applyWith does the same with more components.
func (f *fleet) applyWith(ctx context.Context, workload, components string, patches ...string) {
	GinkgoHelper()
	fields := ""
	fields += "components:\n- $DEPLOY/postgres/workload\n" + components + "images:\n" + image("studio-go-runner", config.image) + "patches:\n"
	for _, patch := range append([]string{pods.Sidecar(config.image)}, patches...) {
		fields += fmt.Sprintf("- target: {kind: (Job|Deployment|StatefulSet)}\n  patch: %s\n", asJSON(patch))
	}
	Expect(f.kubectl.apply(ctx, workload, fields)).To(Succeed())
}

// state says to all runners, or to one, what they shall do. How kubectl does that the
// documents show; here it would take longer than what it is for.
func (f *fleet) state(ctx context.Context, configMap, state string) {
	GinkgoHelper()
	apply := applycorev1.ConfigMap(configMap, f.Namespace()).WithData(map[string]string{api.StateKey: state})
	_, err := f.client.CoreV1().ConfigMaps(f.Namespace()).Apply(ctx, apply, metav1.ApplyOptions{FieldManager: "e2e", Force: true})
	Expect(err).NotTo(HaveOccurred())
}

// submit puts tasks into the queue, held ones if their group is called held.
func (f *fleet) submit(_ context.Context, group string, count int) {
	GinkgoHelper()
	f.submitOn(0, group, count)
}

// submitOn submits tasks that need GPUs.
func (f *fleet) submitOn(gpus int, group string, count int) {
	GinkgoHelper()
	Expect(f.Observation.Submit(scenario.Submit{
		Group: scenario.Name(group), Count: count, GPUs: gpus, Hold: strings.HasPrefix(group, "held"),
	})).To(Succeed())
}

// started are the notes of starts so far, of the tasks of a group.
func (f *fleet) started(group string) []targets.TaskNote { return f.told(group, false) }

// finished are the notes of ends.
func (f *fleet) finished(group string) []targets.TaskNote { return f.told(group, true) }

func (f *fleet) told(group string, end bool) []targets.TaskNote {
	f.record.View(func(s *history.Summary) {
		if s.Troubles != nil {
			StopTrying("the record may have a gap").Attach("why", s.Troubles).Now()
		}
	})
	var told []targets.TaskNote
	for _, e := range f.record.Entries() {
		if e.Note != nil && e.Note.End == end && history.InGroup(e.Note.Task, group) {
			told = append(told, *e.Note)
		}
	}
	return told
}

// eventually waits as long as a cluster may take.
func eventually(ctx context.Context, actual any) AsyncAssertion {
	GinkgoHelper()
	return Eventually(ctx, actual).WithTimeout(engine.Stretch(patience)).WithPolling(time.Second / 2)
}

// timeout is the option of kubectl for the same time.
func timeout() string { return "--timeout=" + engine.Stretch(patience).String() }

// runners are the pods of the workload that are not on their way out, by name.
func (f *fleet) runners(ctx context.Context) []corev1.Pod {
	GinkgoHelper()
	pods, err := f.client.CoreV1().Pods(f.Namespace()).List(ctx, metav1.ListOptions{LabelSelector: runnerLabel})
	Expect(err).NotTo(HaveOccurred())
	all := slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
	slices.SortFunc(all, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// job is the Job as it is now.
func (f *fleet) job(ctx context.Context) *batchv1.Job {
	GinkgoHelper()
	job, err := f.client.BatchV1().Jobs(f.Namespace()).Get(ctx, "studio-go-runner", metav1.GetOptions{})
	Expect(err).NotTo(HaveOccurred())
	return job
}

// status asks a runner's pod.
func (f *fleet) status(ctx context.Context, pod string) (status api.Status, err error) {
	out, err := f.client.CoreV1().Pods(f.Namespace()).ProxyGet("http", pod, "8080", "statusz", nil).DoRaw(ctx)
	if err == nil {
		err = json.Unmarshal(out, &status)
	}
	return status, err
}

// allocatableGPUs is how many a node can give to pods.
func (f *fleet) allocatableGPUs(ctx context.Context, node string) int {
	GinkgoHelper()
	n, err := f.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	Expect(err).NotTo(HaveOccurred())
	gpus := n.Status.Allocatable["nvidia.com/gpu"]
	return int(gpus.Value())
}

// phases are what the runners' pods say to be so; of one that does not answer,
// the reason.
func (f *fleet) phases(ctx context.Context) []string {
	GinkgoHelper()
	var phases []string
	for _, pod := range f.runners(ctx) {
		status, err := f.status(ctx, pod.Name)
		if err != nil {
			phases = append(phases, err.Error())
			continue
		}
		phases = append(phases, string(status.Phase))
	}
	return phases
}

// settled waits until all tasks that were submitted are finished, and looks at
// the rules.
func (f *fleet) settled(ctx context.Context) {
	GinkgoHelper()
	ctx, cancel := context.WithTimeout(ctx, engine.Stretch(patience))
	defer cancel()
	Expect(f.Settled(ctx)).To(Succeed())
}

const runnerLabel = "app.kubernetes.io/name=studio-go-runner"
