package e2e_test

import (
	"context"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/runner/api"
)

// memorySpecs are about the memory of a pod, which only a cluster bounds (R16).
func memorySpecs() {
	It("a task takes more memory than its pod has: that is its failure, and the runner and another task go on", Labels{"area:workloads"},
		SpecTimeout(engine.Stretch(4*time.Minute)), func(ctx SpecContext) {
			const done = "/tmp/done"
			f := newFleet(ctx)
			f.state(ctx, api.GlobalMapName, "Running")
			f.apply(ctx, "deployment", `
- {op: replace, path: /spec/replicas, value: 1}
- {op: replace, path: /spec/template/spec/containers/0/args, value: [serve, --slots=2]}
- {op: add, path: /spec/template/spec/containers/0/resources/limits, value: {memory: 192Mi}}
`)
			eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running"))
			pod := f.runners(ctx)[0]
			// Version 1 of cgroups has no such file, and ends single processes.
			group, err := f.try(ctx, nil, "exec", pod.Name, "--", "cat", "/sys/fs/cgroup/memory.oom.group")
			Expect(err != nil || strings.TrimSpace(group) == "0").To(BeTrue(), "the kubelet would have all of the container ended: kind-config.yaml must say singleProcessOOMKill")

			Expect(f.Env.Submit(ctx, []api.Task{
				{ID: "innocent", Command: "sh", Args: []string{"-c", "until test -e " + done + "; do sleep 0.2; done"}},
				{ID: "greedy", Command: "tail", Args: []string{"/dev/zero"}, MaxAttempts: 1},
			})).To(Succeed())
			reasons := func(ctx context.Context) (all []string, err error) {
				contents, err := f.Queue(ctx)
				for _, task := range contents {
					if task.State == api.TaskDead {
						all = append(all, task.Reason)
					}
				}
				return all, err
			}
			eventually(ctx, reasons).WithArguments(ctx).Should(HaveExactElements("attempt 1: ended by SIGKILL; meanwhile the kernel ended a process for want of memory"))
			f.do(ctx, "exec", pod.Name, "--", "touch", done)
			eventually(ctx, func(ctx context.Context) (api.TaskCounts, error) {
				status, err := f.status(ctx, pod.Name)
				return status.Tasks, err
			}).WithArguments(ctx).Should(And(HaveField("Succeeded", 1), HaveField("Failed", 1)), "the other task began once, and ended well")
			after := f.runners(ctx)
			Expect(uids(after)).To(HaveExactElements(string(pod.UID)))
			Expect(restarts(after)).To(BeZero(), "the runner lives")
		})
}
