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
	"github.com/studioml/studio-go-runner/fakegpu"
	"github.com/studioml/studio-go-runner/runner/api"
)

// gpuResource is what NVIDIA's device plugin advertises.
const gpuResource = "nvidia.com/gpu"

// The nodes with fake GPUs of runner/deploy/fake-gpu carry a label, and have
// the library and the state in these directories.
const (
	fakeLabel   = "studioml.io/fakegpu"
	fakeLibrary = "/var/lib/fakegpu/lib"
	fakeState   = "/var/lib/fakegpu/state"
)

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

// awaitFreeGPUs waits for a node on which so many GPUs are free for one pod, and says
// whether they are fake ones of runner/deploy/fake-gpu, which pods must be shown. What
// this run has used until a moment ago is worth waiting for; what others use is not,
// for long.
func (t *Target) awaitFreeGPUs(ctx context.Context, gpus int) (fake bool, err error) {
	const interval = 2 * time.Second
	limit := 30 * time.Second
	if t.config.Owned {
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
		return node != nil, nil
	})
	if node != nil {
		_, fake = node.Labels[fakeLabel]
		return fake, nil
	}
	if !wait.Interrupted(err) || ctx.Err() != nil {
		return false, err
	}
	none := fmt.Sprintf("no node has %d %s to spare%s", gpus, gpuResource, have)
	if t.config.Owned {
		return false, errors.New(none) // nobody else is the reason
	}
	return false, targets.Cannot(none)
}

// freeGPUs returns a node on which so many GPUs are free, if there is one, and for
// people what there is.
func freeGPUs(gpus int64, nodes []corev1.Node, pods []corev1.Pod) (free *corev1.Node, have string) {
	used := map[string]int64{} // by node
	for _, pod := range pods {
		if !finished(&pod) {
			requests := podresource.PodRequests(&pod, podresource.PodResourcesOptions{})[gpuResource]
			used[pod.Spec.NodeName] += requests.Value()
		}
	}
	for _, node := range nodes {
		if !hasGPUs(node) {
			continue
		}
		allocatable := node.Status.Allocatable[gpuResource]
		if free == nil && allocatable.Value()-used[node.Name] >= gpus {
			free = &node
		}
		have += fmt.Sprintf("; %s has %d, of which %d are in use", node.Name, allocatable.Value(), used[node.Name])
	}
	return free, have
}

// gpus gives a runner its GPUs, and returns what is to be done before its start.
func (e *env) gpus(pod *corev1.Pod, spec targets.RunnerSpec) (before string, err error) {
	c := &pod.Spec.Containers[0]
	if e.usesPlugin() {
		tolerateGPUs(pod)
		c.Resources.Limits = corev1.ResourceList{gpuResource: *resource.NewQuantity(int64(spec.GPUs), resource.DecimalSI)}
		c.Env = slices.DeleteFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == api.EnvNVDevices }) // it is the plugin's to set
		if class := e.target.config.RuntimeClass; class != "" {
			pod.Spec.RuntimeClassName = &class
		}
		with := corev1.NodeSelectorOpDoesNotExist
		if e.fakeNodes {
			with = corev1.NodeSelectorOpExists
			showFakeDriver(pod)
		}
		pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: fakeLabel, Operator: with}}}},
		}}}
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

// showFakeDriver does for a pod what NVIDIA's container runtime does where
// there is a driver: it puts the library where the runner finds it.
func showFakeDriver(pod *corev1.Pod) {
	c := &pod.Spec.Containers[0]
	for name, dir := range map[string]string{"fakegpu-lib": fakeLibrary, "fakegpu-state": fakeState} {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: dir, Type: new(corev1.HostPathDirectory)},
		}})
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: dir, ReadOnly: true})
	}
	setEnv(c, "STUDIOML_NVML_LIBRARY", fakeLibrary+"/libnvidia-ml.so.1")
	setEnv(c, fakegpu.EnvState, fakeState)
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
