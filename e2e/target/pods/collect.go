package pods

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/target/namespace"
)

// Limits of what is collected after a failure.
const (
	maxArtifact     = 16 << 20 // bytes of each file
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
	if err := os.MkdirAll(e.isolation.Artifacts, 0o755); err != nil {
		return fmt.Errorf("collect artifacts: %w", err)
	}
	e.mu.Lock()
	elsewhere := e.elsewhere
	e.mu.Unlock()
	err := errors.Join(
		namespace.Collect(ctx, e.cluster.client, e.namespace, "", e.save),
		namespace.Collect(ctx, e.cluster.client, elsewhere, "elsewhere-", e.save),
		e.collectLogs(ctx), e.collectQueue(ctx), e.collectJournal(ctx))
	if err != nil {
		return fmt.Errorf("collect artifacts: %w", err)
	}
	return nil
}

// save writes a file of the artifacts.
func (e *env) save(name string, data []byte) error {
	if len(data) > maxArtifact {
		data = append(data[:maxArtifact:maxArtifact], "\n(cut here)\n"...)
	}
	return os.WriteFile(filepath.Join(e.isolation.Artifacts, name), data, 0o644)
}

func (e *env) collectQueue(ctx context.Context) error {
	contents, err := e.Queue(ctx)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(contents, "", "  ")
	if err != nil {
		return err
	}
	return e.save("queue.json", data)
}

func (e *env) collectJournal(ctx context.Context) error {
	data, err := e.inKeeper(ctx, nil, "cat", journal)
	if err != nil {
		return err
	}
	return e.save("journal", data)
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
			stream, err := pods.GetLogs(pod.Name, &corev1.PodLogOptions{Container: c.Name, LimitBytes: new(int64(maxArtifact))}).Stream(ctx)
			if err != nil {
				problems = append(problems, err)
				continue
			}
			var log bytes.Buffer
			_, err = io.Copy(&log, stream)
			problems = append(problems, err, stream.Close())
			if log.Len() > 0 {
				problems = append(problems, e.save(pod.Name+"."+c.Name+".log", log.Bytes()))
			}
		}
	}
	return errors.Join(problems...)
}
