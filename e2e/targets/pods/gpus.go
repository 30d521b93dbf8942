package pods

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	podresource "k8s.io/component-helpers/resource"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// gpuResource is what NVIDIA's device plugin advertises.
const gpuResource = "nvidia.com/gpu"

// usesPlugin says whether runners get GPUs from the cluster. Those that a
// scenario changes are of the scenario alone.
func (e *env) usesPlugin() bool { return scenario.UsesGPUsOfTarget(e.Isolation.Needs) }

// tolerateGPUs lets a pod be on nodes that are kept for those with GPUs, by the
// taint that is customary for that.
func tolerateGPUs(pod *corev1.Pod) {
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{Key: gpuResource, Operator: corev1.TolerationOpExists})
}

// hasGPUs says whether the suite's pods can have GPUs on a node at all. A node
// that is not ready, or is to have no new pods, has a taint.
func hasGPUs(node corev1.Node) bool {
	allocatable := node.Status.Allocatable[gpuResource]
	return !allocatable.IsZero() && !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key != gpuResource && t.Effect != corev1.TaintEffectPreferNoSchedule
	})
}

// awaitFreeGPUs returns the nodes on which so many GPUs are free for one pod. It
// waits for what this run has used until a moment ago, not for what others use.
func (t *Target) awaitFreeGPUs(ctx context.Context, gpus int) (free []corev1.Node, err error) {
	const interval, limit = 2 * time.Second, 90 * time.Second // less than the suite gives a place
	var have string
	err = wait.PollUntilContextTimeout(ctx, interval, limit, true, func(ctx context.Context) (bool, error) {
		client := t.Admin.CoreV1()
		all, err := client.Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, fmt.Errorf("list the nodes: %w", err)
		}
		own, err := client.Namespaces().List(ctx, metav1.ListOptions{LabelSelector: runLabel + "=" + t.handle.Run})
		if err != nil {
			return false, fmt.Errorf("list the namespaces: %w", err)
		}
		// Somebody's cluster may have many; this asks the API server's cache.
		pods, err := client.Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return false, fmt.Errorf("list the pods: %w", err)
		}
		var soon bool
		free, soon, have = freeGPUs(int64(gpus), all.Items, own.Items, pods.Items)
		return len(free) > 0 || !soon && !t.handle.Owned, nil
	})
	if len(free) == 0 && (err == nil || wait.Interrupted(err) && ctx.Err() == nil) {
		none := fmt.Sprintf("no node has %d %s to spare%s", gpus, gpuResource, have)
		if t.handle.Owned {
			return nil, errors.New(none) // nobody else is the reason
		}
		return nil, targets.Cannot(none)
	}
	return free, err
}

// freeGPUs returns the nodes on which so many GPUs are free, all real ones or all
// fake ones. Without one, soon says whether there will be one when pods have ended
// that are in these namespaces, or that were deleted; have is what there is, for
// people.
func freeGPUs(gpus int64, nodes []corev1.Node, own []corev1.Namespace, pods []corev1.Pod) (free []corev1.Node, soon bool, have string) {
	used, remain := map[string]int64{}, map[string]int64{} // by node
	for _, pod := range pods {
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		requests := podresource.PodRequests(&pod, podresource.PodResourcesOptions{})[gpuResource]
		used[pod.Spec.NodeName] += requests.Value()
		ours := slices.ContainsFunc(own, func(n corev1.Namespace) bool { return n.Name == pod.Namespace })
		if !ours && pod.DeletionTimestamp == nil {
			remain[pod.Spec.NodeName] += requests.Value()
		}
	}
	for _, node := range nodes {
		if !hasGPUs(node) {
			continue
		}
		allocatable := node.Status.Allocatable[gpuResource]
		if allocatable.Value()-used[node.Name] >= gpus {
			free = append(free, node)
		}
		soon = soon || allocatable.Value()-remain[node.Name] >= gpus
		have += fmt.Sprintf("; %s has %d, of which %d are in use", node.Name, allocatable.Value(), used[node.Name])
	}
	return slices.DeleteFunc(free, func(n corev1.Node) bool { return isFake(n) != isFake(free[0]) }), soon, have
}

func isFake(node corev1.Node) bool {
	_, fake := node.Labels[fakeLabel]
	return fake
}

// gpus gives a runner its GPUs, and returns what is to be done before its start.
func (e *env) gpus(pod *corev1.Pod, spec targets.RunnerSpec) (before string, err error) {
	c := &pod.Spec.Containers[0]
	if e.usesPlugin() {
		tolerateGPUs(pod)
		c.Resources.Limits = corev1.ResourceList{gpuResource: *resource.NewQuantity(int64(spec.GPUs), resource.DecimalSI)}
		c.Env = slices.DeleteFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == api.EnvNVDevices }) // it is the plugin's to set
		if class := e.target.handle.RuntimeClass; class != "" {
			pod.Spec.RuntimeClassName = &class
		}
		if e.fakeNodes {
			showFakeDriver(pod)
		}
		return "", nil
	}
	if spec.Machine != "" {
		return "", errors.New("runners in pods have a machine each, and the scenario gives one to several")
	}
	for name, value := range e.ShowGPUs(spec) {
		setEnv(c, name, value)
	}
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
	pod := e.watch.get(spec.Name)
	if pod == nil || endedOrNever(pod, runnerContainer) {
		return nil
	}
	if _, err := e.watch.await(ctx, spec.Name, func(p *corev1.Pod) bool { return !same(p, pod) || startedOrNever(p, runnerContainer) }); err != nil {
		return err
	}
	return e.exec(ctx, spec.Name, runnerContainer, words...)
}
