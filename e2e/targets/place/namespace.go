package place

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// scenarioAnnotation tells people which scenario a namespace belongs to.
const scenarioAnnotation = "studioml.io/e2e-scenario"

// createNamespace makes a namespace with a name that no other one has, and returns it.
func (p *Place) createNamespace(ctx context.Context) (string, error) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:        "runner-e2e-" + rand.String(8),
		Labels:      p.labels,
		Annotations: map[string]string{scenarioAnnotation: p.Isolation.Name},
	}}
	if _, err := p.Admin.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return "", fmt.Errorf("create namespace: %w", err)
	}
	return ns.Name, nil
}

// Poll asks until the answer is nil, for what the API server cannot be watched for.
// The error has the last answer that was not about the end of ctx.
func Poll(ctx context.Context, ask func() error) error {
	const interval = 20 * time.Millisecond
	var last error
	err := wait.PollUntilContextCancel(ctx, interval, true, func(ctx context.Context) (bool, error) {
		err := ask()
		if ctx.Err() == nil || last == nil {
			last = err
		}
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), last)
	}
	return nil
}

// Remove has the cluster remove a namespace with all that is in it, at once:
// a runner would use its whole grace period for tasks that are held. It does not
// wait for the end of that.
func Remove(ctx context.Context, client kubernetes.Interface, name string) error {
	// A second, rather than none: so the kubelet says when a pod's containers have
	// ended, and its GPUs are free.
	all, soon := metav1.ListOptions{}, metav1.DeleteOptions{GracePeriodSeconds: new(int64(1))}
	// Jobs go before their pods. A Job with a limit for each index gives up a
	// failed pod only when it has made the next one, which it cannot in a
	// namespace that is ending, and the namespace waits for its pods.
	background := metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}
	err := errors.Join(
		unlessGone(client.BatchV1().Jobs(name).DeleteCollection(ctx, background, all)),
		unlessGone(client.CoreV1().Pods(name).DeleteCollection(ctx, soon, all)),
		unlessGone(client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})),
		releaseMaps(ctx, client, name))
	if err != nil {
		return fmt.Errorf("remove namespace %s: %w", name, err)
	}
	return nil
}

// releaseMaps takes the finalizers of scenarios away: nobody else will, and a
// namespace cannot go before its maps.
func releaseMaps(ctx context.Context, client kubernetes.Interface, name string) error {
	all, err := client.CoreV1().ConfigMaps(name).List(ctx, metav1.ListOptions{})
	if err != nil {
		return unlessGone(err)
	}
	var problems []error
	for _, m := range all.Items {
		if len(m.Finalizers) > 0 {
			_, err := client.CoreV1().ConfigMaps(name).Patch(ctx, m.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
			problems = append(problems, unlessGone(err))
		}
	}
	return errors.Join(problems...)
}

// unlessGone is the error of a removal, if what it is about was there.
func unlessGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
