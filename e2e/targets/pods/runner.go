package pods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// lastWords is how long the statuses of a runner that has ended are waited for, and the
// end of one that was told to. On a busy node both are heard of late; who waits in vain
// are those who follow a runner that never answered.
const lastWords = time.Minute

// runner is a pod that was started.
type runner struct {
	env *env
	pod *corev1.Pod // as it was created
}

var _ targets.Runner = (*runner)(nil)

// StartRunner starts a runner, or starts it again under its old name.
func (e *env) StartRunner(ctx context.Context, spec targets.RunnerSpec, tells targets.Sink) (targets.Runner, error) {
	pod, err := e.startPod(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("start runner %s: %w", spec.Name, err)
	}
	r := &runner{env: e, pod: pod}
	e.following.Go(func() { r.follow(e.ctx, tells) })
	return r, nil
}

// startPod makes the pod of a runner in place of its last one.
func (e *env) startPod(ctx context.Context, spec targets.RunnerSpec) (*corev1.Pod, error) {
	pod, err := e.runnerPod(ctx, spec)
	if err != nil {
		return nil, err
	}
	pods := e.Admin.CoreV1().Pods(e.Namespace())
	if before := e.watch.get(spec.Name); before != nil {
		if !endedOrNever(before, runnerContainer) {
			return nil, fmt.Errorf("it is running")
		}
		if err := pods.Delete(ctx, spec.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("remove its last pod: %w", err)
		}
		if _, err := e.watch.await(ctx, spec.Name, func(p *corev1.Pod) bool { return p == nil }); err != nil {
			return nil, err
		}
	}
	if pod, err = pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	// From here on, no such pod means that it has gone.
	return e.watch.await(ctx, spec.Name, func(p *corev1.Pod) bool { return same(p, pod) })
}

// follow passes on what the runner tells, and at last how it ended.
func (r *runner) follow(ctx context.Context, tells targets.Sink) {
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	var words sync.WaitGroup
	words.Go(func() { r.read(ctx, runnerContainer, tells, tells.Log) })
	if r.env.target.config.Adapter == nil { // else it has a sidecar
		r.env.following.Go(func() { r.env.letGo(reading, r.pod) })
		words.Go(func() { r.read(reading, beside, tells, func(line string) { r.hear(ctx, line, tells) }) })
	}
	pod, err := r.awaitEnd(ctx)
	exit := r.exit(pod)
	// The container of the statuses waits for a runner that never answered. Its
	// last words are there a moment after the runner's end.
	late := time.AfterFunc(lastWords, cancel)
	words.Wait()
	late.Stop()
	if err == nil && ctx.Err() == nil {
		tells.Exit(exit)
	}
}

// hear passes on a line of the container beside the runner.
func (r *runner) hear(ctx context.Context, line string, tells targets.Sink) {
	switch {
	case strings.HasPrefix(line, "runner: ") && strings.HasSuffix(line, "asking again until it answers"):
		return // it runs for a second, and the runner's container not yet
	case !strings.HasPrefix(line, "{"):
		r.env.note(ctx, line)
		return
	}
	var said struct{ Runner api.Status }
	if err := json.Unmarshal([]byte(line), &said); err != nil {
		tells.Trouble(fmt.Errorf("status of runner %s is %s: %w", r.pod.Name, api.Excerpt(line), err))
		return
	}
	tells.Status(said.Runner)
}

// read passes on what a container writes.
func (r *runner) read(ctx context.Context, container string, tells targets.Sink, each func(line string)) {
	if err := r.env.logs(ctx, r.pod, container, each); err != nil {
		tells.Trouble(fmt.Errorf("log of container %s of runner %s: %w", container, r.pod.Name, err))
	}
}

// awaitEnd waits for the end of the runner's container and returns the pod, or
// what is there instead of it, if anything.
func (r *runner) awaitEnd(ctx context.Context) (*corev1.Pod, error) {
	return r.env.watch.await(ctx, r.pod.Name, func(p *corev1.Pod) bool {
		return !same(p, r.pod) || endedOrNever(p, runnerContainer)
	})
}

// exit is how the runner has ended, as its pod says, or what is there instead of it.
func (r *runner) exit(pod *corev1.Pod) targets.Exit {
	if !same(pod, r.pod) {
		return targets.Exit{Code: -1, Message: "the pod was deleted", Time: time.Now()}
	}
	state := container(pod, runnerContainer)
	if state == nil || state.Terminated == nil {
		return targets.Exit{Code: -1, Message: strings.TrimSpace(pod.Status.Reason + " " + pod.Status.Message), Time: time.Now()}
	}
	exit := targets.Exit{Code: int(state.Terminated.ExitCode), Message: strings.TrimSpace(state.Terminated.Message), Time: state.Terminated.FinishedAt.Time}
	const killed = 128 + int(syscall.SIGKILL) // no exit code of a runner (R9)
	if exit.Code == killed {
		exit.Code = -1
	}
	return exit
}

// Get asks as the kubelet does, through the API server.
func (r *runner) Get(ctx context.Context, path string) (code int, body []byte, err error) {
	pod := r.env.watch.get(r.pod.Name)
	if !same(pod, r.pod) || !startedOrNever(pod, runnerContainer) {
		return 0, nil, fmt.Errorf("get %s of runner %s: it does not serve yet, or no more", path, r.pod.Name)
	}
	client, err := rest.HTTPClientFor(r.env.Config)
	if err != nil {
		return 0, nil, err
	}
	url := r.env.Admin.CoreV1().RESTClient().Get().Namespace(r.env.Namespace()).Resource("pods").
		Name(r.pod.Name + ":8080").SubResource("proxy").Suffix(path).URL().String()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	response, err := client.Do(request)
	if err == nil {
		defer response.Body.Close()
		code = response.StatusCode
		body, err = io.ReadAll(response.Body)
	}
	// When the runner does not answer, the API server does: with a Status, which no runner sends.
	var status metav1.Status
	if err == nil && code != http.StatusOK && json.Unmarshal(body, &status) == nil && status.Kind == "Status" {
		err = errors.New(status.Message)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("get %s of runner %s: %w", path, r.pod.Name, err)
	}
	return code, body, nil
}

// Signal sends a signal to the runner's process. KILL is Kubernetes' own: the
// pod is deleted by force.
func (r *runner) Signal(ctx context.Context, sig os.Signal) error {
	if sig == syscall.SIGKILL {
		return r.env.Admin.CoreV1().Pods(r.env.Namespace()).Delete(ctx, r.pod.Name,
			metav1.DeleteOptions{GracePeriodSeconds: new(int64(0)), Preconditions: metav1.NewUIDPreconditions(string(r.pod.UID))})
	}
	name := map[os.Signal]string{syscall.SIGTERM: "TERM", syscall.SIGINT: "INT"}[sig]
	if name == "" {
		return fmt.Errorf("send signal to runner %s: it must be TERM, INT or KILL, and is %s", r.pod.Name, sig)
	}
	before, err := r.env.watch.await(ctx, r.pod.Name, func(p *corev1.Pod) bool { return !same(p, r.pod) || startedOrNever(p, runnerContainer) })
	if err != nil {
		return err
	}
	// The first process of the container is the runner.
	err = r.env.exec(ctx, r.pod.Name, runnerContainer, "/bin/sh", "-c", "kill -"+name+" 1")
	if err == nil || !same(before, r.pod) || endedOrNever(before, runnerContainer) {
		return err
	}
	// A runner that ends at once takes along what has told it to.
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	if _, lives := r.awaitEnd(ctx); lives != nil {
		return err
	}
	return nil
}
