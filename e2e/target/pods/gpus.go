package pods

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	podresource "k8s.io/component-helpers/resource"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/target"
)

// gpuResource is what NVIDIA's device plugin advertises.
const gpuResource = "nvidia.com/gpu"

// usesPlugin says whether runners get GPUs from the cluster. Those that a
// scenario changes are of the scenario alone.
func (e *env) usesPlugin() bool { return scenario.UsesGPUsOfTarget(e.isolation.Needs) }

// tolerateGPUs lets a pod be on nodes that are kept for those with GPUs, by the
// taint that is customary for that.
func tolerateGPUs(pod *corev1.Pod) {
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{Key: gpuResource, Operator: corev1.TolerationOpExists})
}

// hasGPUs says whether pods can have GPUs on a node at all.
func hasGPUs(node corev1.Node) bool {
	allocatable := node.Status.Allocatable[gpuResource]
	return !node.Spec.Unschedulable && !allocatable.IsZero()
}

// awaitFreeGPUs returns the nodes on which so many GPUs are free for one pod, as
// their label kubernetes.io/hostname has them. What the scenarios before have
// used comes free when their pods have ended; what others use may never.
func (t *Target) awaitFreeGPUs(ctx context.Context, gpus int) (nodes []string, err error) {
	var have string
	err = wait.PollUntilContextTimeout(ctx, time.Second, time.Minute, true, func(ctx context.Context) (bool, error) {
		list, err := t.cluster.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, fmt.Errorf("list the nodes: %w", err)
		}
		pods, err := t.cluster.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, fmt.Errorf("list the pods: %w", err)
		}
		var possible bool
		nodes, have, possible = freeGPUs(list.Items, pods.Items, int64(gpus))
		return len(nodes) > 0 || !possible, nil
	})
	if len(nodes) == 0 && (err == nil || wait.Interrupted(err) && ctx.Err() == nil) {
		return nil, target.Cannot(fmt.Sprintf("no node has %d %s to spare%s", gpus, gpuResource, have))
	}
	return nodes, err
}

// freeGPUs returns the nodes on which so many GPUs are free. Without one, have
// says what there is, and possible whether it would do if nobody else used it.
func freeGPUs(nodes []corev1.Node, pods []corev1.Pod, gpus int64) (free []string, have string, possible bool) {
	used := map[string]int64{}
	for _, pod := range pods {
		if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			requests := podresource.PodRequests(&pod, podresource.PodResourcesOptions{})[gpuResource]
			used[pod.Spec.NodeName] += requests.Value()
		}
	}
	for _, node := range slices.DeleteFunc(slices.Clone(nodes), func(n corev1.Node) bool { return !hasGPUs(n) }) {
		allocatable := node.Status.Allocatable[gpuResource]
		if allocatable.Value()-used[node.Name] >= gpus {
			free = append(free, cmp.Or(node.Labels[corev1.LabelHostname], node.Name))
		}
		possible = possible || allocatable.Value() >= gpus
		have += fmt.Sprintf("; %s has %d, of which %d are in use", node.Name, allocatable.Value(), used[node.Name])
	}
	return free, have, possible
}

// fakeNodes says whether the GPUs of the cluster are fake ones of
// runner/deploy/fake-gpu, which pods must be shown.
func (t *Target) fakeNodes() bool {
	return slices.ContainsFunc(t.handle.Nodes, func(n corev1.Node) bool { _, ok := n.Labels[fakeLabel]; return ok })
}
