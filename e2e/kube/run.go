package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// Run is one of the suite. Plain data, for the process that cleans up after it.
type Run struct {
	Name string
	// Expires is when another run may remove what this one has left.
	Expires time.Time
	// Passing says that the cluster is removed after the run, so that nothing else
	// needs to be.
	Passing bool
}

// The labels of all namespaces of a run.
const (
	runLabel     = "studioml.io/e2e-run"
	expiresLabel = "studioml.io/e2e-expires" // seconds of Unix time
)

// Labels mark a namespace of the run.
func (r Run) Labels() map[string]string {
	return map[string]string{runLabel: r.Name, expiresLabel: strconv.FormatInt(r.Expires.Unix(), 10)}
}

// Sweep removes the namespaces that the run has made, and those of others whose time is
// over. It returns how many there were.
func (r Run) Sweep(ctx context.Context, client kubernetes.Interface) (removed int, err error) {
	if r.Passing {
		return 0, nil
	}
	all, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: runLabel})
	if err != nil {
		return 0, fmt.Errorf("look for namespaces of the tests: %w", err)
	}
	var problems []error
	for _, ns := range all.Items {
		// Whoever has changed the label wants the namespace to stay.
		expires, err := strconv.ParseInt(ns.Labels[expiresLabel], 10, 64)
		due := ns.Labels[runLabel] == r.Name || expires < time.Now().Unix()
		if err == nil && due && ns.DeletionTimestamp == nil {
			removed++
			problems = append(problems, r.Remove(ctx, client, ns.Name))
		}
	}
	return removed, errors.Join(problems...)
}

// Remove has the cluster remove a namespace with all that is in it, at once:
// a runner would use its whole grace period for tasks that are held. It does not
// wait for the end of that. In a cluster that passes only what runs is ended: to remove
// a namespace takes an API server a hundred requests and more.
func (r Run) Remove(ctx context.Context, client kubernetes.Interface, name string) error {
	all := metav1.ListOptions{}
	// Jobs go before their pods. A Job with a limit for each index gives up a
	// failed pod only when it has made the next one, which it cannot in a
	// namespace that is ending, and the namespace waits for its pods.
	background := metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}
	problems := []error{client.BatchV1().Jobs(name).DeleteCollection(ctx, background, all)}
	if r.Passing {
		problems = append(problems,
			client.AppsV1().Deployments(name).DeleteCollection(ctx, background, all),
			client.AppsV1().StatefulSets(name).DeleteCollection(ctx, background, all))
	}
	// A second, rather than none: so the kubelet says when a pod's containers have
	// ended, and its GPUs are free.
	soon := metav1.DeleteOptions{GracePeriodSeconds: new(int64(1))}
	problems = append(problems, client.CoreV1().Pods(name).DeleteCollection(ctx, soon, all))
	if !r.Passing {
		problems = append(problems, client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}))
		problems = append(problems, releaseMaps(ctx, client, name)...)
	}
	problems = slices.DeleteFunc(problems, apierrors.IsNotFound) // it was gone
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("remove namespace %s: %w", name, err)
	}
	return nil
}

// releaseMaps takes the finalizers of scenarios away: nobody else will, and a
// namespace cannot go before its maps.
func releaseMaps(ctx context.Context, client kubernetes.Interface, name string) (problems []error) {
	maps := client.CoreV1().ConfigMaps(name)
	all, err := maps.List(ctx, metav1.ListOptions{})
	if err != nil {
		return []error{err}
	}
	for _, m := range all.Items {
		if len(m.Finalizers) > 0 {
			_, err := maps.Patch(ctx, m.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
			problems = append(problems, err)
		}
	}
	return problems
}
