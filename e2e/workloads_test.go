package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// workloads are the specs about what Kubernetes does with runners: the shipped
// Job, Deployment and StatefulSet under kubectl. The format of the scenarios
// cannot say them, since there runners are started one by one.
func workloads() {
	limit := SpecTimeout(engine.Stretch(4 * time.Minute))
	long := SpecPriority(2) // pods are slow, so these come first

	It("an Indexed Job: node maps by index, exit 0 completes the index, a deleted runner comes back under its name", rows(52), limit, long, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.state(ctx, api.GlobalMapName, "Running")
		f.submit(ctx, "held", 2)
		f.apply(ctx, "job")
		eventually(ctx, func() []string { return by(f.started("held")) }).Should(ConsistOf("studio-go-runner-0", "studio-go-runner-1"))

		By("draining index 0 alone")
		f.state(ctx, "studio-go-runner-0", "DrainAndTerminate")
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Draining", "Running"))
		f.submit(ctx, "queued", 2)
		Expect(f.Release(ctx, "held")).To(Succeed())
		eventually(ctx, func() []string { return by(f.finished("queued")) }).Should(HaveExactElements("studio-go-runner-1", "studio-go-runner-1"))
		eventually(ctx, func(ctx context.Context) string { return f.job(ctx).Status.CompletedIndexes }).WithArguments(ctx).Should(Equal("0"))

		By("deleting the pod of index 1 in the middle of a task")
		f.submit(ctx, "held-again", 1)
		eventually(ctx, func() []string { return by(f.started("held-again")) }).Should(HaveExactElements("studio-go-runner-1"))
		f.do(ctx, "delete", "pod", "--wait=false", "--selector=batch.kubernetes.io/job-completion-index=1")
		Expect(f.Release(ctx, "held-again")).To(Succeed())
		f.settled(ctx)
		eventually(ctx, func(ctx context.Context) []string {
			var names []string
			for _, pod := range f.runners(ctx) {
				if pod.Status.Phase == corev1.PodRunning {
					names = append(names, pod.Spec.Hostname)
				}
			}
			return names
		}).WithArguments(ctx).Should(HaveExactElements("studio-go-runner-1"))

		By("draining all")
		f.state(ctx, api.GlobalMapName, "DrainAndTerminate")
		eventually(ctx, func(ctx context.Context) string { return f.job(ctx).Status.CompletedIndexes }).WithArguments(ctx).Should(Equal("0,1"))
		f.do(ctx, "wait", "--for=condition=complete", timeout(), "job/studio-go-runner")
	})

	It("a Deployment that parks: drained pods stay, ready and idle, and go on with Running", rows(53), limit, long, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.state(ctx, api.GlobalMapName, "Running")
		f.apply(ctx, "deployment")
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running", "Running"))
		before := f.runners(ctx)
		f.state(ctx, api.GlobalMapName, "DrainAndTerminate")
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Terminated", "Terminated"))
		f.submit(ctx, "queued", 4)
		f.takesAll(ctx, before[0].Name, "queued", 4)
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Terminated", "Terminated"))
		f.do(ctx, "rollout", "status", timeout(), "deployment/studio-go-runner")

		f.submit(ctx, "again", 2)
		f.state(ctx, api.GlobalMapName, "Running")
		f.settled(ctx)
		after := f.runners(ctx)
		Expect(uids(after)).To(Equal(uids(before)), "the same pods")
		Expect(restarts(after)).To(BeZero())
	})

	It("a Deployment that exits: it is started again and again, and takes no task", rows(53), limit, long, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.state(ctx, api.GlobalMapName, "DrainAndTerminate")
		f.submit(ctx, "queued", 2)
		f.apply(ctx, "deployment", "\n- {op: replace, path: /spec/template/spec/containers/0/args, value: [serve]}\n- {op: replace, path: /spec/replicas, value: 1}\n")
		eventually(ctx, func(ctx context.Context) int { return restarts(f.runners(ctx)) }).WithArguments(ctx).Should(BeNumerically(">=", 2))
		// Two lives are over, and the queue itself says that nobody began a task.
		contents, err := f.Queue(ctx)
		Expect(err).NotTo(HaveOccurred())
		Expect(contents).To(And(HaveLen(2), HaveEach(And(HaveField("State", api.TaskWaiting), HaveField("Starts", 0)))))
		last := f.runners(ctx)[0].Status.ContainerStatuses[0]
		Expect(last.LastTerminationState.Terminated).To(HaveField("ExitCode", int32(0)))
		f.state(ctx, api.GlobalMapName, "Running")
		f.settled(ctx)
	})

	It("a rollout and a scale-up while suspended complete, and no task starts", rows(54), limit, long, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.state(ctx, api.GlobalMapName, "DrainAndSuspend")
		f.submit(ctx, "queued", 3)
		f.apply(ctx, "deployment")
		f.do(ctx, "rollout", "status", timeout(), "deployment/studio-go-runner")
		f.do(ctx, "rollout", "restart", "deployment/studio-go-runner")
		f.do(ctx, "rollout", "status", timeout(), "deployment/studio-go-runner")
		f.do(ctx, "scale", "--replicas=3", "deployment/studio-go-runner")
		f.do(ctx, "rollout", "status", timeout(), "deployment/studio-go-runner")
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Suspended", "Suspended", "Suspended"))
		f.takesAll(ctx, f.runners(ctx)[0].Name, "queued", 3)
		f.submit(ctx, "again", 3)
		f.state(ctx, api.GlobalMapName, "Running")
		f.settled(ctx)
	})

	It("kubectl delete pod --force in the middle of a task, and kubectl rollout restart: nothing is lost", rows(55), limit, long, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.Repeats = "a pod is deleted by force"
		f.state(ctx, api.GlobalMapName, "Running")
		f.apply(ctx, "deployment", graceOf("1s"))
		f.submit(ctx, "held", 2)
		eventually(ctx, func() []string { return by(f.started("held")) }).Should(HaveLen(2))
		victim := f.started("held")[0].Runner
		f.do(ctx, "delete", "pod", "--force", "--grace-period=0", victim)
		// Whoever has a slot now takes it: the other one is busy, the new one is not.
		eventually(ctx, func() []string { return by(f.started("held")) }).Should(HaveLen(3))
		f.do(ctx, "rollout", "restart", "deployment/studio-go-runner")
		f.do(ctx, "rollout", "status", timeout(), "deployment/studio-go-runner")
		Expect(f.Release(ctx, "held")).To(Succeed())
		f.settled(ctx)
	})

	It("a StatefulSet: each runner has its node map under a name that stays", rows(18, 53), limit, long, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.state(ctx, "studio-go-runner-1", "DrainAndSuspend")
		f.apply(ctx, "statefulset")
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running", "Suspended"))
		f.do(ctx, "delete", "pod", "studio-go-runner-1")
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running", "Suspended"))
		f.submit(ctx, "queued", 3)
		f.settled(ctx)
		Expect(by(f.started("queued"))).To(HaveEach("studio-go-runner-0"))
	})

	It("one Event for each transition; without the right to write them a runner works all the same", rows(56), limit, long, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.state(ctx, api.GlobalMapName, "Running")
		f.apply(ctx, "statefulset", "\n- {op: replace, path: /spec/replicas, value: 1}\n")
		const pod = "studio-go-runner-0"
		for _, state := range []struct{ asked, phase string }{
			{"Running", "Running"}, {"DrainAndSuspend", "Suspended"}, {"Running", "Running"},
		} {
			f.state(ctx, api.GlobalMapName, state.asked)
			eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements(state.phase))
		}
		// The log has each change of the phase once. Events are written one after
		// the other, so none comes late once the last one is there.
		eventually(ctx, f.changes).WithArguments(ctx, pod).Should(ContainElements("Unknown to Running", "Suspended to Running"))
		eventually(ctx, f.events).WithArguments(ctx, pod).Should(ConsistOf(f.changes(ctx, pod)))

		By("taking the right away")
		f.do(ctx, "patch", "role", "studio-go-runner", "--type=json", `--patch=[{"op":"remove","path":"/rules/2"}]`)
		f.state(ctx, api.GlobalMapName, "DrainAndSuspend")
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Suspended"))
		f.submit(ctx, "queued", 1)
		f.state(ctx, api.GlobalMapName, "Running")
		f.settled(ctx)
		Expect(restarts(f.runners(ctx))).To(BeZero())
	})

	It("the reference document's own commands work as typed", rows(57), limit, long, func(ctx SpecContext) {
		f := newFleet(ctx)
		f.do(ctx, "apply", "-f", filepath.Join("..", "runner", "deploy", "example", "global_config.yaml"))
		Expect(f.do(ctx, "get", "-o=yaml", "cm", "studioml-go-runner")).To(ContainSubstring("STATE: Running"))
		_, err := f.try(ctx, nil, "get", "-o=yaml", "--export", "cm", "studioml-go-runner")
		Expect(err).To(MatchError(ContainSubstring("unknown flag: --export")), "else the README is wrong")
	})
}

// takesAll exempts one runner from a drain until it has finished the tasks of a
// group. The others, which could see them for longer, must not have started one.
func (f *fleet) takesAll(ctx context.Context, runner, group string, tasks int) {
	GinkgoHelper()
	f.state(ctx, runner, "Running")
	eventually(ctx, func() []targets.TaskNote { return f.finished(group) }).Should(HaveLen(tasks))
	Expect(by(f.started(group))).To(And(HaveLen(tasks), HaveEach(runner)))
	f.do(ctx, "delete", "configmap", runner)
}

// changes are the changes of a runner's phase, by its log.
func (f *fleet) changes(ctx context.Context, pod string) (all []string) {
	GinkgoHelper()
	for line := range strings.Lines(f.do(ctx, "logs", pod)) {
		var told struct{ Msg, From, To string }
		if json.Unmarshal([]byte(line), &told) == nil && told.Msg == "transition" && told.From != told.To {
			all = append(all, told.From+" to "+told.To)
		}
	}
	return all
}

// events are the changes of a runner's phase, by the Events about its pod; an
// Event that stands for several is listed as often.
func (f *fleet) events(ctx context.Context, pod string) (all []string) {
	GinkgoHelper()
	out := f.do(ctx, "get", "events.events.k8s.io", "--field-selector=reason=StateTransition,regarding.name="+pod,
		"--output=jsonpath={range .items[*]}{.series.count} {.note}{\"\\n\"}{end}")
	for line := range strings.Lines(out) {
		count, note, _ := strings.Cut(line, " ")
		change, _, _ := strings.Cut(note, ",")
		n, err := strconv.Atoi(cmp.Or(count, "1"))
		Expect(err).NotTo(HaveOccurred(), line)
		all = append(all, slices.Repeat([]string{change}, n)...)
	}
	return all
}

// rows are the labels of a spec that shows rows of the catalogue.
func rows(numbers ...int) Labels {
	all := Labels{"area:workloads"}
	for _, n := range numbers {
		all = append(all, fmt.Sprintf("row:%d", n))
	}
	return all
}

// graceOf is a patch that sets the grace period of runners.
func graceOf(d string) string {
	return fmt.Sprintf("\n- {op: replace, path: /spec/template/spec/containers/0/env/1, value: {name: STUDIOML_GRACE_PERIOD, value: %s}}\n", d)
}

// by are the runners of notes, sorted.
func by(notes []targets.TaskNote) []string {
	var names []string
	for _, n := range notes {
		names = append(names, n.Runner)
	}
	slices.Sort(names)
	return names
}

func uids(pods []corev1.Pod) []string {
	var all []string
	for _, p := range pods {
		all = append(all, string(p.UID))
	}
	return all
}

// restarts counts those of all containers.
func restarts(pods []corev1.Pod) (n int) {
	for _, p := range pods {
		for _, s := range p.Status.ContainerStatuses {
			n += int(s.RestartCount)
		}
	}
	return n
}
