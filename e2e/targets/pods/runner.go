package pods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
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

// StartRunner starts a runner, in place of its last pod if it had one.
func (e *env) StartRunner(ctx context.Context, spec targets.RunnerSpec, tells targets.Sink) (_ targets.Runner, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("start runner %s: %w", spec.Name, err)
		}
	}()
	p, err := e.runnerParts(spec)
	if err != nil {
		return nil, err
	}
	if before := e.get(spec.Name); before != nil {
		if (&runner{e, before}).stage(before, runnerContainer) != over {
			return nil, errors.New("it is running")
		}
		err := e.Admin.CoreV1().Pods(e.Namespace()).Delete(ctx, spec.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("remove its last pod: %w", err)
		}
	}
	r, err := e.create(ctx, p)
	if err != nil {
		return nil, err
	}
	e.following.Go(func() { r.follow(e.ctx, p, tells) })
	return r, nil
}

// follow passes on what the runner tells, and at last how it ended.
func (r *runner) follow(ctx context.Context, p parts, tells targets.Sink) {
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	var words sync.WaitGroup
	read := func(ctx context.Context, container string, each func(line string)) {
		words.Go(func() {
			if err := r.logs(ctx, container, each); err != nil {
				tells.Trouble(err)
			}
		})
	}
	read(ctx, runnerContainer, tells.Log)
	switch {
	case p.Idle:
		words.Go(func() { r.statuses(reading, p.Port, tells) })
	case p.Port != "": // else it has a sidecar
		r.env.following.Go(func() { r.letGo(reading) })
		read(reading, beside, func(line string) { r.hear(ctx, line, tells) })
	}
	now, err := r.reach(ctx, runnerContainer, over)
	exit := r.exit(now)
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

// statuses passes on every status of a runner beside which nothing is, until it has
// ended. A broken stream is opened again, and so is one that may only seem to be whole.
func (r *runner) statuses(ctx context.Context, port string, tells targets.Sink) {
	newest := uint64(0)
	_ = wait.PollUntilContextCancel(ctx, pause, true, func(ctx context.Context) (done bool, _ error) {
		now, err := r.reach(ctx, runnerContainer, running)
		if err != nil || r.stage(now, runnerContainer) == over {
			return true, nil
		}
		until, stop := context.WithTimeout(ctx, follow)
		defer stop()
		stream, err := r.proxy(port, "statusz").Param("watch", "true").Stream(until)
		if err != nil {
			return false, nil // it does not serve yet, or no more
		}
		defer stream.Close()
		newest, err = place.Statuses(stream, newest, tells.Status)
		if err != nil {
			tells.Trouble(fmt.Errorf("runner %s: %w", r.pod.Name, err))
		}
		return err != nil, nil // it would say the same again
	})
}

// proxy is a request to the runner by way of the API server.
func (r *runner) proxy(port, path string) *rest.Request {
	return r.env.Admin.CoreV1().RESTClient().Get().Namespace(r.pod.Namespace).Resource("pods").
		Name(r.pod.Name + ":" + port).SubResource("proxy").Suffix(path)
}

// exit is how the runner has ended, as its pod says, or what is there instead of it.
func (r *runner) exit(now *corev1.Pod) targets.Exit {
	state := r.state(now, runnerContainer).Terminated
	switch {
	case !r.is(now):
		return targets.Exit{Code: -1, Message: "the pod was deleted", Time: time.Now()}
	case state == nil:
		return targets.Exit{Code: -1, Message: strings.TrimSpace(now.Status.Reason + " " + now.Status.Message), Time: time.Now()}
	}
	exit := targets.Exit{Code: int(state.ExitCode), Message: strings.TrimSpace(state.Message), Time: state.FinishedAt.Time}
	const killed = 128 + int(syscall.SIGKILL) // no exit code of a runner (R9)
	if exit.Code == killed {
		exit.Code = -1
	}
	return exit
}

// Get asks as the kubelet does, through the API server.
func (r *runner) Get(ctx context.Context, path string) (code int, body []byte, err error) {
	if r.stage(r.env.get(r.pod.Name), runnerContainer) != running {
		return 0, nil, fmt.Errorf("get %s of runner %s: it does not serve yet, or no more", path, r.pod.Name)
	}
	result := r.proxy("8080", path).Do(ctx)
	// When the runner does not answer, the API server does: with a Status, which no runner sends.
	err = result.Error()
	if answer := apierrors.APIStatus(nil); errors.As(err, &answer) && apierrors.IsUnexpectedServerError(err) {
		return int(answer.Status().Code), []byte(answer.Status().Details.Causes[0].Message), nil
	}
	if err != nil {
		return 0, nil, fmt.Errorf("get %s of runner %s: %w", path, r.pod.Name, err)
	}
	body, err = result.StatusCode(&code).Raw()
	return code, body, err
}

// Signal sends a signal to the runner's process. KILL is Kubernetes' own: the
// pod is deleted by force.
func (r *runner) Signal(ctx context.Context, sig os.Signal) error {
	if sig == syscall.SIGKILL {
		return r.env.Admin.CoreV1().Pods(r.pod.Namespace).Delete(ctx, r.pod.Name,
			metav1.DeleteOptions{GracePeriodSeconds: new(int64(0)), Preconditions: metav1.NewUIDPreconditions(string(r.pod.UID))})
	}
	before, err := r.reach(ctx, runnerContainer, running)
	if err != nil {
		return err
	}
	// The first process of the container is the runner.
	err = r.exec(ctx, runnerContainer, "/bin/sh", "-c", fmt.Sprintf("kill -%d 1", sig))
	if err == nil || r.stage(before, runnerContainer) == over {
		return err
	}
	// A runner that ends at once takes along what has told it to.
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	if _, lives := r.reach(ctx, runnerContainer, over); lives != nil {
		return err
	}
	return nil
}
