package pods

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/targets/evidence"
	"github.com/studioml/studio-go-runner/e2e/targets/namespace"
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
		e.collectLogs(ctx))
	if e.hasKeeper() {
		err = errors.Join(err, e.collectQueue(ctx), e.collectJournal(ctx))
	}
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
			problems = append(problems, e.collectLog(ctx, pod.Name, c.Name, false))
			if slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == c.Name && s.RestartCount > 0 }) {
				problems = append(problems, e.collectLog(ctx, pod.Name, c.Name, true))
			}
		}
	}
	return errors.Join(problems...)
}

// collectLog writes the log of a container, or of the one before its restart.
func (e *env) collectLog(ctx context.Context, pod, container string, previous bool) error {
	options := &corev1.PodLogOptions{Container: container, Previous: previous, LimitBytes: new(int64(maxLog))}
	log, err := e.cluster.client.CoreV1().Pods(e.namespace).GetLogs(pod, options).DoRaw(ctx)
	if err != nil || len(log) == 0 {
		return err
	}
	name := pod + "." + container
	if previous {
		name += ".previous"
	}
	return e.evidence().Save(name+".log", log)
}
