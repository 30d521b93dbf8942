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

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/klog/v2"

	"github.com/studioml/studio-go-runner/e2e/kube"
)

// exec runs a program in a container. What it prints on stderr is in the error.
func (e *env) exec(ctx context.Context, pod, container string, command ...string) error {
	request := e.Admin.CoreV1().RESTClient().Post().Resource("pods").Namespace(e.Namespace()).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: container, Command: command, Stderr: true}, scheme.ParameterCodec)
	// As kubectl does it: proxies between here and there may know only one of the two.
	sockets, err := remotecommand.NewWebSocketExecutor(e.Config, "GET", request.URL().String())
	if err != nil {
		return err
	}
	spdy, err := remotecommand.NewSPDYExecutor(e.Config, "POST", request.URL())
	if err != nil {
		return err
	}
	executor, err := remotecommand.NewFallbackExecutor(sockets, spdy, kube.UpgradeFailed)
	if err != nil {
		return err
	}
	// Without its log: the end of a scenario is an error to it.
	var stderr bytes.Buffer
	err = executor.StreamWithContext(klog.NewContext(ctx, logr.Discard()), remotecommand.StreamOptions{Stderr: &stderr})
	if ctx.Err() != nil {
		return context.Cause(ctx) // who gives up on a connection may still be written to by it
	}
	if err != nil {
		return fmt.Errorf("%s in pod %s: %w\n%s", command[0], pod, err, bytes.TrimSpace(stderr.Bytes()))
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
func (e *env) logs(ctx context.Context, pod *corev1.Pod, name string, each func(line string)) error {
	p, err := e.watch.await(ctx, pod.Name, func(p *corev1.Pod) bool { return !same(p, pod) || startedOrNever(p, name) })
	if err != nil || !same(p, pod) || !started(p, name) { // a pod that was evicted early has no log
		return nil
	}
	reading := logReader{each: each}
	_ = wait.PollUntilContextCancel(ctx, pause, true, func(ctx context.Context) (done bool, _ error) {
		p := e.watch.get(pod.Name)
		if !same(p, pod) {
			return true, nil // and if there is one of its name, it has a log of its own
		}
		last := over(p, name) // nothing will be added to what is read now
		until, stop := context.WithTimeout(ctx, follow)
		defer stop()
		err = e.readLog(until, pod, name, &reading)
		// It is gone, or a kubelet that was started again does not know it yet; or another
		// has its name, of which the watch has not told yet, and has not begun.
		if apierrors.IsNotFound(err) || apierrors.IsBadRequest(err) {
			err = nil
			return last, nil
		}
		return last && err == nil, nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// logReader reads a log, from the beginning each time.
type logReader struct {
	each   func(line string)
	first  string // line, by which a container is known from one that was started in its place
	passed int    // lines
}

// readLog reads a log to its end, and passes on what was not before.
func (e *env) readLog(ctx context.Context, pod *corev1.Pod, name string, r *logReader) error {
	stream, err := e.Admin.CoreV1().Pods(e.Namespace()).GetLogs(pod.Name, &corev1.PodLogOptions{Container: name, Follow: true}).Stream(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	reader := bufio.NewReader(stream)
	for n := 0; ; n++ {
		line, err := reader.ReadString('\n')
		if err != nil { // the beginning of a line is read again, unless the container has ended
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
		if n == 0 && line != r.first {
			r.first, r.passed = line, 0
		}
		if n >= r.passed {
			r.each(strings.TrimSuffix(line, "\n"))
			r.passed++
		}
	}
}
