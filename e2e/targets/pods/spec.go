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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
	"github.com/studioml/studio-go-runner/runner/api"
)

const (
	jobFile         = "job/job.yaml"
	runnerContainer = "runner" // of the shipped Job
	beside          = "beside" // see beside.go

	// volume is a directory of a pod, mount where its containers have it, and below
	// that is what there is.
	volume   = "e2e"
	mount    = "/e2e"
	journal  = mount + "/journal"
	releases = mount + "/release-"
	machines = mount + "/gpus"
)

// Volume is the directory that a pod of a shipped workload has to have for its tasks
// to be heard, and where.
func Volume() (corev1.Volume, corev1.VolumeMount) {
	return corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}, corev1.VolumeMount{Name: volume, MountPath: mount}
}

// shippedPod is the pod of the shipped Job with the scenario's image and account, and
// with a directory of the tests in place of the queue's. All pods of a scenario are
// made from it.
func (e *env) shippedPod(ctx context.Context, name string) (*corev1.Pod, error) {
	job, err := kube.ShippedOne[*batchv1.Job](ctx, jobFile)
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: e.Namespace(), Labels: maps.Clone(job.Spec.Template.Labels)},
		Spec:       job.Spec.Template.Spec,
	}
	containers := pod.Spec.Containers
	if len(containers) != 1 || containers[0].Name != runnerContainer {
		return nil, fmt.Errorf("%s does not have exactly one container called %s", jobFile, runnerContainer)
	}
	c := &containers[0]
	c.Image = e.target.config.Image
	directory, at := Volume()
	pod.Spec.Volumes = append(pod.Spec.Volumes, directory)
	c.VolumeMounts = append(c.VolumeMounts, at)
	e.queueOf(pod)
	// NVIDIA's container runtime, should it be the node's, shows a container all
	// GPUs if the image says so; this keeps it away.
	setEnv(c, api.EnvNVDevices, "void")
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

// runnerPod is the pod of a runner.
func (e *env) runnerPod(ctx context.Context, spec targets.RunnerSpec) (*corev1.Pod, error) {
	pod, err := e.shippedPod(ctx, spec.Name)
	if err != nil {
		return nil, err
	}
	c := &pod.Spec.Containers[0]
	c.Args = place.ServeArgs(spec, nil)
	command := []string{"runner"}
	if adapter := e.target.config.Adapter; adapter != nil {
		command = adapt(c, adapter, spec, e.Layout.Spool, e.Namespace())
	}
	before := ""
	switch spec.Hostname {
	case "":
	case scenario.NoHost:
		before = "unset HOSTNAME; "
	default:
		setEnv(c, "HOSTNAME", spec.Hostname)
	}
	if spec.GPUs > 0 {
		made, err := e.gpus(pod, spec)
		if err != nil {
			return nil, err
		}
		before += made
	}
	if before != "" || len(command) > 1 {
		c.Command = append([]string{"/bin/sh", "-c", before + `exec "$@"`, "sh"}, command...)
	}

	if e.target.config.Adapter != nil {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, Sidecar(c.Image, c.SecurityContext))
		return pod, nil
	}
	// What the runner says is written down from its first word to its last: TERM
	// is for all containers of a pod, and this one ends by itself.
	_, port, err := net.SplitHostPort(cmp.Or(spec.Flags["listen"], ":8080"))
	if err != nil {
		return nil, fmt.Errorf("flag listen: %w", err)
	}
	watch := besideContainer(c.Image, c.SecurityContext, "runner", "status", "--watch", "--output=json", "--address=127.0.0.1:"+port)
	pod.Spec.Containers = append([]corev1.Container{watch}, pod.Spec.Containers...)
	return pod, nil
}
