package pods

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// adapt has an adapter start the runner. Of one of another make nothing else is known,
// as where it serves.
func adapt(c *corev1.Container, adapter place.Adapter, spec targets.RunnerSpec, queue, namespace string) []string {
	command, env := adapter.Run(spec, map[string]string{"spool": queue, "namespace": namespace, "termination-log": corev1.TerminationMessagePathDefault})
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
		return fmt.Errorf("run %s: %s", command[0], kube.Condition(ended))
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
