package kind

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// until is an action that asks again and again until the answer is nil.
func until(ask func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, readyTimeout)
		defer cancel()
		return place.Poll(ctx, func() error { return ask(ctx) })
	}
}

// nodesReady says which node is not ready, and why.
func (c *Cluster) nodesReady(ctx context.Context) error {
	list, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var problems []error
	for _, node := range list.Items {
		ready := corev1.NodeCondition{Status: corev1.ConditionUnknown, Message: "it has not said anything"}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady {
				ready = condition
			}
		}
		if ready.Status != corev1.ConditionTrue {
			problems = append(problems, fmt.Errorf("node %s: %s", node.Name, ready.Message))
		}
	}
	return errors.Join(problems...)
}

// backSince says what a node that was started again lacks. For a while the API
// server has what was true before: only what is newer counts.
func (c *Cluster) backSince(ctx context.Context, name string, began time.Time) error {
	began = began.Truncate(time.Second) // as precise as the API server's times
	node, err := c.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	ready := slices.ContainsFunc(node.Status.Conditions, func(condition corev1.NodeCondition) bool {
		return condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue && !condition.LastHeartbeatTime.Time.Before(began)
	})
	if !ready {
		return errors.New("its kubelet has not said that it is ready")
	}
	// Services cannot be reached before kube-proxy has written its rules, nor
	// names be resolved while CoreDNS is thought to be where it was.
	system, err := c.client.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + name})
	if err != nil {
		return err
	}
	var problems []error
	for _, pod := range system.Items {
		if pod.DeletionTimestamp == nil && !slices.ContainsFunc(pod.Status.ContainerStatuses, func(status corev1.ContainerStatus) bool {
			return status.Ready && status.State.Running != nil && !status.State.Running.StartedAt.Time.Before(began)
		}) {
			problems = append(problems, fmt.Errorf("its %s does not run", pod.Name))
		}
	}
	return errors.Join(problems...)
}

// dnsReady says how many of CoreDNS' pods are ready, if not all.
func (c *Cluster) dnsReady(ctx context.Context) error {
	dns, err := c.client.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, "coredns", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if dns.Status.ObservedGeneration < dns.Generation || dns.Spec.Replicas == nil || dns.Status.ReadyReplicas < *dns.Spec.Replicas {
		return fmt.Errorf("%d of its %d pods are ready", dns.Status.ReadyReplicas, dns.Status.Replicas)
	}
	return nil
}
