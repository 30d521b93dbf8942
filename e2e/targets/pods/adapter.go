package pods

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// Runners of another make have their queue in a volume that all pods of a scenario
// mount, and are given tasks by further pods of their image.

const (
	queueVolume = "spool" // of the shipped Job
	queueDir    = "/spool/queue"
)

// queueOf lets a pod have the queue: our own runners from a server, others in a volume.
func (e *env) queueOf(pod *corev1.Pod) {
	c := &pod.Spec.Containers[0]
	c.Env = slices.DeleteFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == "STUDIOML_SPOOL" })
	for i := range pod.Spec.Volumes {
		if claim := pod.Spec.Volumes[i].PersistentVolumeClaim; claim != nil {
			claim.ClaimName = queueVolume
		}
	}
	if e.target.handle.Adapter != nil {
		return
	}
	c.Env = append(c.Env, corev1.EnvVar{Name: "STUDIOML_QUEUE", ValueFrom: &corev1.EnvVarSource{
		SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: queueSecret}, Key: queueURL, Optional: new(e.Layout.Queue == "")},
	}})
	pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == queueVolume })
	c.VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == queueVolume })
}

func (e *env) createVolume(ctx context.Context) error {
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: queueVolume},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	if class := e.target.handle.Storage; class != "" {
		claim.Spec.StorageClassName = &class
	}
	if _, err := e.Admin.CoreV1().PersistentVolumeClaims(e.Namespace()).Create(ctx, claim, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create volume: %w", err)
	}
	return nil
}

// adapt has an adapter start the runner. Of one of another make nothing else is known,
// as where it serves.
func adapt(c *corev1.Container, adapter place.Adapter, spec targets.RunnerSpec, namespace string) []string {
	command, env := adapter.Run(spec, map[string]string{"spool": queueDir, "namespace": namespace, "termination-log": corev1.TerminationMessagePathDefault})
	c.Args, c.Ports, c.StartupProbe, c.LivenessProbe, c.ReadinessProbe = nil, nil, nil, nil, nil
	for _, name := range slices.Sorted(maps.Keys(env)) {
		setEnv(c, name, env[name])
	}
	return command
}

// Run runs a program in a pod of the image. What it prints on stderr is among its
// output.
func (e *env) Run(ctx context.Context, stdin io.Reader, stdout io.Writer, command ...string) error {
	pod, err := e.shippedPod(ctx, "run-"+rand.String(8))
	if err != nil {
		return err
	}
	pod.Labels = nil // no runner: the shipped budget and network policy do not mean it
	pod.Spec.AutomountServiceAccountToken = new(false)
	c := &pod.Spec.Containers[0]
	c.Args, c.Ports, c.StartupProbe, c.LivenessProbe, c.ReadinessProbe = nil, nil, nil, nil, nil
	c.TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
	c.Command = append([]string{"/bin/sh", "-c", `printf %s "$E2E_INPUT" | "$@"`, "sh"}, command...)
	if stdin != nil {
		text, err := io.ReadAll(stdin)
		if err != nil {
			return err
		}
		setEnv(c, "E2E_INPUT", string(bytes.ReplaceAll(text, []byte("$("), []byte("$$(")))) // a kubelet expands $(NAME)
	}
	if _, err := e.Admin.CoreV1().Pods(e.Namespace()).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return err
	}
	ended, err := e.watch.await(ctx, pod.Name, func(p *corev1.Pod) bool { return p != nil && endedOrNever(p, runnerContainer) })
	if err != nil {
		return err
	}
	state := container(ended, runnerContainer)
	if state == nil || state.Terminated == nil {
		return fmt.Errorf("run %s: %s", command[0], condition(ended))
	}
	if state.Terminated.ExitCode != 0 {
		return fmt.Errorf("run %s: exit code %d: %s", command[0], state.Terminated.ExitCode, state.Terminated.Message)
	}
	if stdout == nil {
		return nil
	}
	log, err := e.Admin.CoreV1().Pods(e.Namespace()).GetLogs(pod.Name, &corev1.PodLogOptions{Container: runnerContainer}).DoRaw(ctx)
	if err == nil {
		_, err = stdout.Write(log)
	}
	return err
}
