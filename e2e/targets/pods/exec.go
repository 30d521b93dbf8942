package pods

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/klog/v2"

	"github.com/studioml/studio-go-runner/e2e/kube"
)

// Run runs a program in a pod of the image. What it prints on stderr is among its
// output.
func (e *env) Run(ctx context.Context, stdin []byte, stdout io.Writer, command ...string) error {
	escaped := bytes.ReplaceAll(stdin, []byte("$("), []byte("$$(")) // a kubelet expands $(NAME)
	r, err := e.create(ctx, parts{
		Name: "run-" + rand.String(8), Program: true, Env: map[string]string{"E2E_INPUT": string(escaped)},
		Command: append([]string{"/bin/sh", "-c", `printf %s "$E2E_INPUT" | "$@"`, "sh"}, command...),
	})
	if err != nil {
		return err
	}
	now, err := r.reach(ctx, runnerContainer, over)
	if err != nil {
		return err
	}
	state := r.state(now, runnerContainer).Terminated
	if state == nil {
		return fmt.Errorf("run %s: %s", command[0], kube.Condition(now))
	}
	if state.ExitCode != 0 {
		return fmt.Errorf("run %s: exit code %d: %s", command[0], state.ExitCode, state.Message)
	}
	if stdout == nil {
		return nil
	}
	log, err := e.log(ctx, r.pod.Name, &corev1.PodLogOptions{Container: runnerContainer})
	if err == nil {
		_, err = stdout.Write(log)
	}
	return err
}

// exec runs a program in a container. What it prints on stderr is in the error.
func (r *runner) exec(ctx context.Context, container string, command ...string) error {
	request := r.env.Admin.CoreV1().RESTClient().Post().Resource("pods").Namespace(r.pod.Namespace).Name(r.pod.Name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: container, Command: command, Stderr: true}, scheme.ParameterCodec)
	// As kubectl does it: proxies between here and there may know only one of the two.
	sockets, err := remotecommand.NewWebSocketExecutor(r.env.Config, "GET", request.URL().String())
	if err != nil {
		return err
	}
	spdy, err := remotecommand.NewSPDYExecutor(r.env.Config, "POST", request.URL())
	if err != nil {
		return err
	}
	executor, err := remotecommand.NewFallbackExecutor(sockets, spdy, kube.UpgradeFailed)
	if err != nil {
		return err
	}
	// Without its log: the end of a scenario is an error to it.
	var stderr bytes.Buffer
	err = executor.StreamWithContext(klog.NewContext(ctx, klog.Logger{}), remotecommand.StreamOptions{Stderr: &stderr})
	if ctx.Err() != nil {
		return context.Cause(ctx) // who gives up on a connection may still be written to by it
	}
	if err != nil {
		return fmt.Errorf("%s in pod %s: %w\n%s", command[0], r.pod.Name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return nil
}

// pause is between two tries to read a log.
const pause = 200 * time.Millisecond

// follow is how long a connection is read: one to a node that lost its power may never
// end by itself, nor the next one that the API server makes of it.
const follow = 15 * time.Second

// logs calls each for every line that a container writes, from its first line
// until it has ended or is gone. After a broken connection it reads on: the
// kubelet has the lines from the beginning.
func (r *runner) logs(ctx context.Context, container string, each func(line string)) error {
	p, err := r.reach(ctx, container, running)
	if state := r.state(p, container); err != nil || state.Running == nil && state.Terminated == nil {
		return nil // a pod that was evicted early has no log
	}
	first, passed := "", 0 // lines; a container that was started in place of another is known by its first one
	once := func(n int, line string) {
		if n == 0 && line != first {
			first, passed = line, 0
		}
		if n >= passed {
			each(strings.TrimSuffix(line, "\n"))
			passed++
		}
	}
	_ = wait.PollUntilContextCancel(ctx, pause, true, func(ctx context.Context) (done bool, _ error) {
		p := r.env.get(r.pod.Name)
		if !r.is(p) {
			return true, nil // and if there is one of its name, it has a log of its own
		}
		last := r.stage(p, container) == over // nothing will be added to what is read now
		until, stop := context.WithTimeout(ctx, follow)
		defer stop()
		err = r.readLog(until, container, once)
		// It is gone, or a kubelet that was started again does not know it yet; or another
		// has its name, of which the watch has not told yet, and has not begun.
		if apierrors.IsNotFound(err) || apierrors.IsBadRequest(err) {
			err = nil
		}
		return last && err == nil, nil
	})
	if err == nil || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("log of container %s of pod %s: %w", container, r.pod.Name, err)
}

// readLog reads a log once, from its first line to its end.
func (r *runner) readLog(ctx context.Context, container string, each func(n int, line string)) error {
	options := &corev1.PodLogOptions{Container: container, Follow: true}
	stream, err := r.env.Admin.CoreV1().Pods(r.pod.Namespace).GetLogs(r.pod.Name, options).Stream(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	reader := bufio.NewReader(stream)
	for n := 0; ; n++ {
		line, err := reader.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil // the beginning of a line is read again, unless the container has ended
		}
		if err != nil {
			return err
		}
		each(n, line)
	}
}
