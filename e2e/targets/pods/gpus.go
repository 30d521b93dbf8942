package pods

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	podresource "k8s.io/component-helpers/resource"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

// gpuResource is what NVIDIA's device plugin advertises.
const gpuResource = "nvidia.com/gpu"

// fakeLabel is on the nodes with fake GPUs of runner/deploy/fake-gpu.
const fakeLabel = "studioml.io/fakegpu"

// usesPlugin says whether runners get GPUs from the cluster. Those that a
// scenario changes are of the scenario alone.
func (e *env) usesPlugin() bool { return scenario.UsesGPUsOfTarget(e.Isolation.Needs) }

// awaitFreeGPUs waits for a node on which so many GPUs are free for one pod, and says
// whether they are fake ones of runner/deploy/fake-gpu, which pods must be shown. What
// this run has used until a moment ago is worth waiting for; what others use is not,
// for long.
func (t *Target) awaitFreeGPUs(ctx context.Context, gpus int) (fake bool, err error) {
	const interval = 2 * time.Second
	limit := 30 * time.Second
	if t.Config.Owned {
		limit = 4 * time.Minute // less than the suite gives a place
	}
	var node *corev1.Node
	var have string
	err = wait.PollUntilContextTimeout(ctx, interval, limit, true, func(ctx context.Context) (bool, error) {
		nodes, err := t.Admin.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, fmt.Errorf("list the nodes: %w", err)
		}
		// Somebody's cluster may have many; this asks the API server's cache.
		pods, err := t.Admin.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return false, fmt.Errorf("list the pods: %w", err)
		}
		node, have = freeGPUs(int64(gpus), nodes.Items, pods.Items)
		return node != nil || have == "", nil
	})
	none := fmt.Sprintf("no node has %d %s to spare%s", gpus, gpuResource, have)
	switch {
	case node != nil:
		_, fake = node.Labels[fakeLabel]
		return fake, nil
	case ctx.Err() != nil, err != nil && !wait.Interrupted(err):
		return false, err
	case t.Config.Owned:
		return false, errors.New(none) // nobody else is the reason
	}
	return false, targets.Cannot(none)
}

// freeGPUs returns a node on which so many GPUs are free, if there is one, and for
// people what there is. A node that is not ready, or is to have no new pods, has a taint.
func freeGPUs(gpus int64, nodes []corev1.Node, pods []corev1.Pod) (free *corev1.Node, have string) {
	used := map[string]int64{} // by node
	for _, pod := range pods {
		if !finished(&pod) {
			requests := podresource.PodRequests(&pod, podresource.PodResourcesOptions{})[gpuResource]
			used[pod.Spec.NodeName] += requests.Value()
		}
	}
	for _, node := range nodes {
		allocatable := node.Status.Allocatable[gpuResource]
		if allocatable.IsZero() || slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
			return t.Key != gpuResource && t.Effect != corev1.TaintEffectPreferNoSchedule
		}) {
			continue
		}
		if free == nil && allocatable.Value()-used[node.Name] >= gpus {
			free = &node
		}
		have += fmt.Sprintf("; %s has %d, of which %d are in use", node.Name, allocatable.Value(), used[node.Name])
	}
	return free, have
}

// gpus gives a runner its GPUs, and returns what is to be done before its start.
func (e *env) gpus(p *parts, spec targets.RunnerSpec) (before string, err error) {
	if e.usesPlugin() {
		p.GPUs, p.Fake, p.RuntimeClass = spec.GPUs, e.fakeNodes, e.target.Config.RuntimeClass
		return "", nil
	}
	if spec.Machine != "" {
		return "", errors.New("runners in pods have a machine each, and the scenario gives one to several")
	}
	maps.Copy(p.Env, e.ShowGPUs(spec))
	// Its machine is the pod: what was done to one before is done to this one.
	before = "mkdir -p " + machines + "\n"
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, words := range append([][]string{e.CreateGPUs(spec)}, e.machines[spec.Name]...) {
		before += "'" + strings.Join(words, "' '") + "' || exit\n"
	}
	return before, nil
}

// ChangeGPUs does it in the runner's pod, if it has one, and in those that follow.
func (e *env) ChangeGPUs(ctx context.Context, spec targets.RunnerSpec, words []string) error {
	words = e.GPUCommand(spec, words)
	e.mu.Lock()
	e.machines[spec.Name] = append(e.machines[spec.Name], words)
	e.mu.Unlock()
	pod := e.get(spec.Name)
	if pod == nil {
		return nil
	}
	r := &runner{e, pod}
	if now, err := r.reach(ctx, runnerContainer, running); err != nil || r.stage(now, runnerContainer) == over {
		return err
	}
	return r.exec(ctx, runnerContainer, words...)
}
