package pods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// runner is a pod that was started.
type runner struct {
	env     *env
	pod     *corev1.Pod // as it was created
	nodeMap string
}

var _ targets.Runner = (*runner)(nil)

// NodeMap is the name of the runner's node map.
func (r *runner) NodeMap() string { return r.nodeMap }

// Watch calls each for every status that the container beside the runner has
// written down.
func (r *runner) Watch(ctx context.Context, each func(api.Status)) error {
	// That container waits for a runner that never answered. Its last words are
	// there a moment after the runner's end.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		if _, err := r.ended(ctx); err != nil {
			return
		}
		timer := time.NewTimer(lastWords)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-ctx.Done():
		}
	}()
	var bad error
	err := r.env.logs(ctx, r.pod, statusContainer, func(line string) {
		var status api.Status
		if err := json.Unmarshal([]byte(line), &status); err != nil {
			bad = errors.Join(bad, fmt.Errorf("status of runner %s is %s: %w", r.pod.Name, api.Excerpt(line), err))
			return
		}
		each(status)
	})
	return errors.Join(err, bad)
}

// lastWords is how long the statuses of a runner that has ended are waited for,
// and the end of one that was told to.
const lastWords = 10 * time.Second

// Logs calls each for every line that the runner writes.
func (r *runner) Logs(ctx context.Context, each func(line string)) error {
	return r.env.logs(ctx, r.pod, runnerContainer, each)
}

// Probe asks as the kubelet does, through the API server.
func (r *runner) Probe(ctx context.Context, path string) (bool, error) {
	pod := r.env.watch.get(r.pod.Name)
	if !same(pod, r.pod) || !begun(pod, runnerContainer) {
		return false, nil
	}
	err := r.env.cluster.client.CoreV1().RESTClient().Get().Namespace(r.env.namespace).Resource("pods").
		Name(r.pod.Name + ":8080").SubResource("proxy").Suffix(path).Do(ctx).Error()
	var status apierrors.APIStatus
	if errors.As(err, &status) { // 503 from the runner, or from the API server if it cannot reach it
		return false, nil
	}
	return err == nil, err
}

// Signal sends a signal to the runner's process. KILL is Kubernetes' own: the
// pod is deleted by force.
func (r *runner) Signal(ctx context.Context, sig os.Signal) error {
	if sig == syscall.SIGKILL {
		return r.env.cluster.client.CoreV1().Pods(r.env.namespace).Delete(ctx, r.pod.Name,
			metav1.DeleteOptions{GracePeriodSeconds: new(int64(0)), Preconditions: metav1.NewUIDPreconditions(string(r.pod.UID))})
	}
	name := map[os.Signal]string{syscall.SIGTERM: "TERM", syscall.SIGINT: "INT"}[sig]
	if name == "" {
		return fmt.Errorf("send signal to runner %s: it is %s, allowed are TERM, INT and KILL", r.pod.Name, sig)
	}
	before, err := r.env.watch.await(ctx, r.pod.Name, func(p *corev1.Pod) bool { return !same(p, r.pod) || begun(p, runnerContainer) })
	if err != nil {
		return err
	}
	// The first process of the container is the runner.
	err = r.env.cluster.exec(ctx, r.env.namespace, r.pod.Name, runnerContainer, nil, nil, "/bin/sh", "-c", "kill -"+name+" 1")
	if err == nil || !same(before, r.pod) || ended(before, runnerContainer) {
		return err
	}
	// A runner that ends at once takes along what has told it to.
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	if _, lives := r.ended(ctx); lives != nil {
		return err
	}
	return nil
}

// ended waits for the end of the runner's container and returns the pod, or
// what is there instead of it, if anything.
func (r *runner) ended(ctx context.Context) (*corev1.Pod, error) {
	return r.env.watch.await(ctx, r.pod.Name, func(p *corev1.Pod) bool {
		return !same(p, r.pod) || ended(p, runnerContainer)
	})
}

// Wait returns when the runner has ended.
func (r *runner) Wait(ctx context.Context) (targets.Exit, error) {
	pod, err := r.ended(ctx)
	if err != nil {
		return targets.Exit{}, fmt.Errorf("wait for the end of runner %s: %w", r.pod.Name, err)
	}
	if !same(pod, r.pod) {
		return targets.Exit{Code: -1, Message: "the pod was deleted", Time: time.Now()}, nil
	}
	state := container(pod, runnerContainer)
	if state == nil || state.Terminated == nil {
		return targets.Exit{Code: -1, Message: strings.TrimSpace(pod.Status.Reason + " " + pod.Status.Message), Time: time.Now()}, nil
	}
	exit := targets.Exit{Code: int(state.Terminated.ExitCode), Message: strings.TrimSpace(state.Terminated.Message), Time: state.Terminated.FinishedAt.Time}
	const killed = 128 + int(syscall.SIGKILL) // no exit code of a runner (R9)
	if exit.Code == killed {
		exit.Code = -1
	}
	return exit, nil
}
