package pods

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/target/evidence"
	"github.com/studioml/studio-go-runner/e2e/target/namespace"
)

// Limits of what is collected after a failure.
const (
	maxLog          = 16 << 20 // bytes of each
	collectDeadline = 30 * time.Second
)

// Collect writes queue, journal, objects and the logs of all pods into the
// artifacts, as far as they can be had.
func (e *env) Collect(ctx context.Context) error {
	if e.isolation.Artifacts == "" || e.namespace == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, collectDeadline)
	defer cancel()
	e.mu.Lock()
	elsewhere := e.elsewhere
	e.mu.Unlock()
	err := errors.Join(
		namespace.Collect(ctx, e.cluster.client, e.namespace, "", e.evidence().Save),
		namespace.Collect(ctx, e.cluster.client, elsewhere, "elsewhere-", e.evidence().Save),
		e.collectLogs(ctx), e.collectQueue(ctx), e.collectJournal(ctx))
	if err != nil {
		return fmt.Errorf("collect artifacts: %w", err)
	}
	return nil
}

func (e *env) collectQueue(ctx context.Context) error {
	contents, err := e.Queue(ctx)
	return e.evidence().SaveJSON("queue.json", contents, err)
}

func (e *env) evidence() evidence.Dir { return evidence.Dir(e.isolation.Artifacts) }

func (e *env) collectJournal(ctx context.Context) error {
	data, err := e.inKeeper(ctx, nil, "cat", journal)
	if err != nil {
		return err
	}
	return e.evidence().Save("journal", data)
}

// collectLogs writes POD.CONTAINER.log of every container that has begun.
func (e *env) collectLogs(ctx context.Context) error {
	pods := e.cluster.client.CoreV1().Pods(e.namespace)
	all, err := pods.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var problems []error
	for _, pod := range all.Items {
		for _, c := range pod.Spec.Containers {
			if !begun(&pod, c.Name) {
				continue
			}
			stream, err := pods.GetLogs(pod.Name, &corev1.PodLogOptions{Container: c.Name, LimitBytes: new(int64(maxLog))}).Stream(ctx)
			if err != nil {
				problems = append(problems, err)
				continue
			}
			var log bytes.Buffer
			_, err = io.Copy(&log, stream)
			problems = append(problems, err, stream.Close())
			if log.Len() > 0 {
				problems = append(problems, e.evidence().Save(pod.Name+"."+c.Name+".log", log.Bytes()))
			}
		}
	}
	return errors.Join(problems...)
}
