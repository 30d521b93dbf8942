package kind

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/studioml/studio-go-runner/e2e/kube"
)

// ControlPlane is the name of the node with the API server.
func (c *Cluster) ControlPlane() string { return c.Name + "-control-plane" }

// Workers are the names of the nodes that are everybody's.
func (c *Cluster) Workers() []string { return []string{c.Name + "-worker", c.Name + "-worker2"} }

// Spare is the name of the node that only those use who harm it.
func (c *Cluster) Spare() string { return c.Name + "-worker3" }

// Run runs a program in a node. The error has what it says.
func (c *Cluster) Run(ctx context.Context, node string, command ...string) error {
	return run(ctx, append([]string{"docker", "exec", "--privileged", node}, command...)...)
}

// kubectl is an action that has the control plane's kubectl wait for something.
func (c *Cluster) kubectl(words ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		words := append(words, "--kubeconfig=/etc/kubernetes/admin.conf", "--timeout="+readyTimeout.String())
		return c.Run(ctx, c.ControlPlane(), append([]string{"kubectl"}, words...)...)
	}
}

// LoadArchive loads the images of a docker or OCI archive into nodes.
func (c *Cluster) LoadArchive(ctx context.Context, archive string, nodes ...string) error {
	return run(ctx, c.Kind, "load", "image-archive", archive, "--name", c.Name, "--nodes", strings.Join(nodes, ","))
}

// StopNode stops a node as a machine that loses its power does.
func (c *Cluster) StopNode(ctx context.Context, node string) error {
	return run(ctx, "docker", "kill", node)
}

// StartNode starts a node that was stopped and waits until pods run on it again.
func (c *Cluster) StartNode(ctx context.Context, client kubernetes.Interface, node string) error {
	began := time.Now()
	if err := run(ctx, "docker", "start", node); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return kube.Poll(ctx, "node "+node+" is back", func() error { return backSince(ctx, client, node, began) })
}

// backSince says what a node that was started again lacks. For a while the API
// server has what was true before: only what is newer counts.
func backSince(ctx context.Context, client kubernetes.Interface, name string, began time.Time) error {
	began = began.Truncate(time.Second) // as precise as the API server's times
	node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
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
	system, err := client.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + name})
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
