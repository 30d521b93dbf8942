package e2e_test

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/runner/api"
)

// outageSpecs stop the API server of the cluster.
func outageSpecs() {
	limit := SpecTimeout(engine.Stretch(5 * time.Minute))

	// The last one: after it, what talks to the API server asks less and less often
	// for a while.
	It("the API server is stopped for a minute: runners go on, no pod is restarted, what changed is seen", rows(37, 39), limit, Serial, SpecPriority(-1), func(ctx SpecContext) {
		f := newFleet(ctx)
		f.state(ctx, api.GlobalMapName, "Running")
		f.apply(ctx, "deployment")
		eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running", "Running"))
		before := f.runners(ctx)
		// Two slots, and so five minutes of work and more, of which the rest is not waited for.
		const count = 100
		var all []api.Task
		for n := range count {
			all = append(all, api.Task{ID: fmt.Sprintf("long-%d", n), Command: "/bin/sh", Args: []string{"-c", "sleep 6"}})
		}
		Expect(f.Env.Submit(ctx, all)).To(Succeed())
		howMany := func(ctx context.Context, state api.TaskState) (int, error) {
			contents, err := f.Queue(ctx)
			return len(contents.In(state)), err
		}
		eventually(ctx, howMany).WithArguments(ctx, api.TaskRunning).Should(Equal(2))
		done, err := howMany(ctx, api.TaskFinished)
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
			now, err = howMany(ctx, api.TaskFinished)
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
}

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
	return nodes.Run(ctx, nodes.ControlPlane(), "timeout", "300", "sh", "-c", script, "sh", manifest, away)
}
