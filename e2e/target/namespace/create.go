package namespace

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// scenarioAnnotation tells people which scenario a namespace belongs to.
const scenarioAnnotation = "studioml.io/e2e-scenario"

// Create makes a namespace with a name that no other one has, and returns it.
func Create(ctx context.Context, client kubernetes.Interface, scenario string, labels map[string]string) (string, error) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:        "runner-e2e-" + rand.String(8),
		Labels:      maps.Clone(labels),
		Annotations: map[string]string{scenarioAnnotation: scenario},
	}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return "", fmt.Errorf("create namespace: %w", err)
	}
	return ns.Name, nil
}

// poll calls done until it is true, for what the API server cannot be watched for.
func poll(ctx context.Context, done func() bool) error {
	const interval = 20 * time.Millisecond
	err := wait.PollUntilContextCancel(ctx, interval, true, func(context.Context) (bool, error) { return done(), nil })
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
