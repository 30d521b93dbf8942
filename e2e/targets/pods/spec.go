package pods

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/e2e-framework/klient/k8s"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
	"github.com/studioml/studio-go-runner/runner/api"
)

const (
	jobFile         = "job/job.yaml"
	runnerContainer = "runner" // of the shipped Job
	statusContainer = "status" // beside it, see doc.go
	keeper          = "keeper"

	volume = "spool" // of the shipped Job
	// mount is where pods have the volume, and below it what there is.
	mount    = "/e2e"
	queueDir = mount + "/spool"
	journal  = mount + "/journal"
	releases = mount + "/release"
	machines = mount + "/gpus"
)

// shippedPod is the pod of the shipped Job with the scenario's image, account
// and volume. All pods of a scenario are made from it.
func (e *env) shippedPod(ctx context.Context, name string) (*corev1.Pod, error) {
	objects, err := place.Shipped(ctx, jobFile)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(objects, func(o k8s.Object) bool { _, is := o.(*batchv1.Job); return is })
	if i < 0 {
		return nil, fmt.Errorf("%s has no Job", jobFile)
	}
	job := objects[i].(*batchv1.Job)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: e.Namespace(), Labels: maps.Clone(job.Spec.Template.Labels)},
		Spec:       job.Spec.Template.Spec,
	}
	for i := range pod.Spec.Volumes {
		if claim := pod.Spec.Volumes[i].PersistentVolumeClaim; claim != nil && pod.Spec.Volumes[i].Name == volume {
			claim.ClaimName = volume
		}
	}
	containers := pod.Spec.Containers
	if len(containers) != 1 || containers[0].Name != runnerContainer {
		return nil, fmt.Errorf("%s does not have exactly one container called %s", jobFile, runnerContainer)
	}
	c := &containers[0]
	c.Image = e.target.handle.Image
	for i := range c.VolumeMounts {
		if c.VolumeMounts[i].Name == volume {
			c.VolumeMounts[i].MountPath = mount
		}
	}
	setEnv(c, "STUDIOML_SPOOL", queueDir)
	// NVIDIA's container runtime, should it be the node's, shows a container all
	// GPUs if the image says so; this keeps it away.
	setEnv(c, api.EnvNVDevices, "void")
	if e.usesPlugin() {
		tolerateGPUs(pod) // those without GPUs may have to be beside one that has
	}
	return pod, nil
}

func setEnv(c *corev1.Container, name, value string) {
	i := slices.IndexFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == name })
	if i < 0 {
		c.Env = append(c.Env, corev1.EnvVar{Name: name})
		i = len(c.Env) - 1
	}
	c.Env[i].Value = value
}

// keeperPod is the pod through which the harness reaches the volume.
func (e *env) keeperPod(ctx context.Context) (*corev1.Pod, error) {
	pod, err := e.shippedPod(ctx, keeper)
	if err != nil {
		return nil, err
	}
	pod.Labels = nil // no runner: the shipped budget and network policy do not mean it
	pod.Spec.TerminationGracePeriodSeconds = new(int64(0))
	pod.Spec.AutomountServiceAccountToken = new(false)
	c := &pod.Spec.Containers[0]
	c.Name = keeper
	c.Command = []string{"/bin/sh", "-c", fmt.Sprintf("mkdir -p %s %s %s && : >>%s && exec sleep 2147483647", queueDir, releases, machines, journal)}
	c.Args, c.Ports, c.LivenessProbe = nil, nil, nil
	c.ReadinessProbe = nil
	// A volume of one node is where its first pod is, so that must be a node
	// that the runners can use.
	if e.usesPlugin() {
		var names []string
		for _, node := range e.gpuNodes {
			names = append(names, hostname(node))
		}
		pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: names}},
			}}},
		}}
	}
	return pod, nil
}

// runnerPod is the pod of a runner.
func (e *env) runnerPod(ctx context.Context, spec targets.RunnerSpec) (*corev1.Pod, error) {
	pod, err := e.shippedPod(ctx, spec.Name)
	if err != nil {
		return nil, err
	}
	if !e.target.handle.Storage.Shared {
		// Others could not mount the volume.
		pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: e.node}
	}
	c := &pod.Spec.Containers[0]
	c.Args = place.ServeArgs(spec, nil)
	switch spec.Hostname {
	case "":
	case scenario.NoHost:
		c.Command = []string{"/bin/sh", "-c", `unset HOSTNAME; exec runner "$@"`, "runner"}
	default:
		setEnv(c, "HOSTNAME", spec.Hostname)
	}
	if spec.GPUs > 0 {
		if err := e.gpus(ctx, pod, spec); err != nil {
			return nil, err
		}
	}

	if adapter := e.target.handle.Adapter; adapter != nil {
		adapt(c, adapter, spec, e.Namespace())
		return pod, nil
	}

	// What the runner says is written down from its first word to its last: TERM
	// is for all containers of a pod, and this one ends by itself.
	_, port, err := net.SplitHostPort(cmp.Or(spec.Flags["listen"], ":8080"))
	if err != nil {
		return nil, fmt.Errorf("flag listen: %w", err)
	}
	pod.Spec.Containers = append([]corev1.Container{{
		Name: statusContainer, Image: c.Image, SecurityContext: c.SecurityContext,
		Command: []string{"/bin/sh", "-c", "trap '' TERM; runner status --watch --output=json --address=127.0.0.1:" + port},
		Env:     []corev1.EnvVar{{Name: api.EnvNVDevices, Value: "void"}},
	}}, pod.Spec.Containers...)
	return pod, nil
}

// adapt has an adapter start the runner. Of one of another make nothing else is known,
// as where it serves.
func adapt(c *corev1.Container, adapter place.Adapter, spec targets.RunnerSpec, namespace string) {
	command, env := adapter.Run(spec, map[string]string{"spool": queueDir, "namespace": namespace, "termination-log": corev1.TerminationMessagePathDefault})
	c.Command, c.Args, c.Ports = command, nil, nil
	c.StartupProbe, c.LivenessProbe, c.ReadinessProbe = nil, nil, nil
	for _, name := range slices.Sorted(maps.Keys(env)) {
		setEnv(c, name, env[name])
	}
}

// gpus gives a runner its GPUs.
func (e *env) gpus(ctx context.Context, pod *corev1.Pod, spec targets.RunnerSpec) error {
	c := &pod.Spec.Containers[0]
	if e.usesPlugin() {
		c.Resources.Limits = corev1.ResourceList{gpuResource: *resource.NewQuantity(int64(spec.GPUs), resource.DecimalSI)}
		c.Env = slices.DeleteFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == api.EnvNVDevices }) // it is the plugin's to set
		if class := e.target.handle.RuntimeClass; class != "" {
			pod.Spec.RuntimeClassName = &class
		}
		if e.onFakeNodes() {
			showFakeDriver(pod)
		}
		return nil
	}
	variables, err := e.FakeGPUs(ctx, spec)
	for name, value := range variables {
		setEnv(c, name, value)
	}
	return err
}
