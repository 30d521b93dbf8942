package pods

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// The labels of all namespaces of a run of the suite.
const (
	runLabel     = "studioml.io/e2e-run"
	expiresLabel = "studioml.io/e2e-expires" // seconds of Unix time
)

// Labels mark a namespace of this run.
func (t *Target) Labels() map[string]string {
	return map[string]string{runLabel: t.config.Run, expiresLabel: strconv.FormatInt(t.config.Expires.Unix(), 10)}
}

// Sweep removes everything that this run has made, unless the cluster is to pass, too.
func (t *Target) Sweep(ctx context.Context) error {
	if t.config.Passing {
		return nil
	}
	_, err := sweep(ctx, t.Admin, runLabel+"="+t.config.Run, func(int64) bool { return true })
	return err
}

// SweepExpired removes the namespaces that runs have left whose time is over,
// and returns how many there were.
func SweepExpired(ctx context.Context, client kubernetes.Interface, now time.Time) (int, error) {
	return sweep(ctx, client, runLabel, func(expires int64) bool { return expires < now.Unix() })
}

func sweep(ctx context.Context, client kubernetes.Interface, selector string, due func(expires int64) bool) (removed int, err error) {
	all, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return 0, fmt.Errorf("look for namespaces of the tests: %w", err)
	}
	var problems []error
	for _, ns := range all.Items {
		// Whoever has changed the label wants the namespace to stay.
		expires, err := strconv.ParseInt(ns.Labels[expiresLabel], 10, 64)
		if err != nil || !due(expires) || ns.DeletionTimestamp != nil {
			continue
		}
		removed++
		problems = append(problems, place.Remove(ctx, client, ns.Name))
	}
	return removed, errors.Join(problems...)
}

// empty ends all pods of a namespace. The rest passes with the cluster: to remove a
// namespace takes an API server a hundred requests and more.
func empty(ctx context.Context, client kubernetes.Interface, name string) error {
	all := metav1.ListOptions{}
	background := metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}
	return errors.Join(
		client.BatchV1().Jobs(name).DeleteCollection(ctx, background, all),
		client.AppsV1().Deployments(name).DeleteCollection(ctx, background, all),
		client.AppsV1().StatefulSets(name).DeleteCollection(ctx, background, all),
		client.CoreV1().Pods(name).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: new(int64(1))}, all)) // see place.Remove
}
