package pods

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream"
)

// cluster is what reaches into pods.
type cluster struct {
	rest   *rest.Config
	client kubernetes.Interface
}

// exec runs a program in a container. What it prints on stderr is in the error.
func (c cluster) exec(ctx context.Context, namespace, pod, container string, stdin io.Reader, stdout io.Writer, command ...string) error {
	request := c.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: container, Command: command, Stdin: stdin != nil, Stdout: true, Stderr: true,
		}, scheme.ParameterCodec)
	// As kubectl does it: proxies between here and there may know only one of the two.
	sockets, err := remotecommand.NewWebSocketExecutor(c.rest, "GET", request.URL().String())
	if err != nil {
		return err
	}
	spdy, err := remotecommand.NewSPDYExecutor(c.rest, "POST", request.URL())
	if err != nil {
		return err
	}
	executor, err := remotecommand.NewFallbackExecutor(sockets, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	if err != nil {
		return err
	}
	var stderr buffer
	// Without its log: the end of a scenario is an error to it.
	err = executor.StreamWithContext(klog.NewContext(ctx, logr.Discard()), remotecommand.StreamOptions{Stdin: stdin, Stdout: stdout, Stderr: &stderr})
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("%s in pod %s: %w\n%s", strings.Join(command[:min(len(command), 2)], " "), pod, err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// buffer keeps what is written to it. Whoever gives up on a program may still be
// written to for a moment.
type buffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *buffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(data)
}

// String is what was written so far.
func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

// pause is between two tries to reach a pod again.
const pause = 200 * time.Millisecond

// retry calls try until it says that it is done or ctx ends.
func retry(ctx context.Context, try func() (done bool)) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for !try() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// logs calls each for every line that a container writes, from its first line
// until it has ended or is gone. After a broken connection it reads on: the
// kubelet has the lines from the beginning.
func (e *env) logs(ctx context.Context, pod *corev1.Pod, name string, each func(line string)) error {
	p, err := e.watch.await(ctx, pod.Name, func(p *corev1.Pod) bool { return !same(p, pod) || begun(p, name) })
	if err != nil || !same(p, pod) {
		return nil
	}
	delivered := 0
	retry(ctx, func() (done bool) {
		p := e.watch.get(pod.Name)
		if !same(p, pod) {
			return true // and if there is one of its name, it has a log of its own
		}
		last := ended(p, name) // nothing will be added to what is read now
		var n int
		n, err = e.readLog(ctx, pod, name, delivered, each)
		delivered += n
		if apierrors.IsNotFound(err) {
			err = nil
			return true
		}
		return last && err == nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// readLog reads a log to its end, without the lines before skip, and returns
// how many lines it has passed on.
func (e *env) readLog(ctx context.Context, pod *corev1.Pod, name string, skip int, each func(line string)) (int, error) {
	stream, err := e.cluster.client.CoreV1().Pods(e.namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: name, Follow: true}).Stream(ctx)
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	reader := bufio.NewReader(stream)
	passed := 0
	for n := 0; ; n++ {
		line, err := reader.ReadString('\n')
		if err != nil { // the beginning of a line is read again, unless the container has ended
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return passed, err
		}
		if n >= skip {
			each(strings.TrimSuffix(line, "\n"))
			passed++
		}
	}
}
