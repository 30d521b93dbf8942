package kind

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// podNetwork are the addresses of all pods, kind's default.
const podNetwork = "10.244.0.0/16"

// until is an action that asks again and again until the answer is nil.
func until(ask func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, readyTimeout)
		defer cancel()
		return place.Poll(ctx, func() error { return ask(ctx) })
	}
}

// network connects the pods of different nodes where that is ours to do.
func (c *Cluster) network(ctx context.Context) error {
	if !c.OurNetwork {
		return nil
	}
	return until(c.setNetwork)(ctx)
}

// ranges are the pod addresses of each node.
func (c *Cluster) ranges(ctx context.Context) (map[string]string, error) {
	list, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	ranges := map[string]string{}
	for _, node := range list.Items {
		if node.Spec.PodCIDR == "" {
			return nil, fmt.Errorf("node %s has no podCIDR", node.Name)
		}
		ranges[node.Name] = node.Spec.PodCIDR
	}
	return ranges, nil
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

// setNetwork connects the pods of all nodes. Each node gets the configuration of
// its CNI plugins and routes to the pods of the others; there is no daemon for
// that. Doing it again changes nothing.
func (c *Cluster) setNetwork(ctx context.Context) error {
	ranges, err := c.ranges(ctx)
	if err != nil {
		return err
	}
	all, err := c.nodes(ctx)
	if err != nil {
		return err
	}
	addresses := map[string]string{}
	for _, node := range all {
		address, err := docker(ctx, nil, "inspect", "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", node)
		if err != nil {
			return fmt.Errorf("find the address of %s: %w", node, err)
		}
		addresses[node] = strings.TrimSpace(address)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, node := range all {
		if addresses[node] == "" { // stopped
			continue
		}
		group.Go(func() error {
			_, err := c.Run(ctx, node, strings.NewReader(networkScript(node, ranges, addresses)), "sh", "-eu")
			return err
		})
	}
	return group.Wait()
}

// networkScript is what a node does to connect its pods.
func networkScript(node string, ranges, addresses map[string]string) string {
	var script strings.Builder
	fmt.Fprintf(&script, "cat >/etc/cni/net.d/10-ptp.conflist <<'end'\n%s\nend\n", conflist(ranges[node]))
	for other, pods := range ranges {
		if other != node && addresses[other] != "" {
			fmt.Fprintf(&script, "ip route replace %s via %s\n", pods, addresses[other])
		}
	}
	// Only nodes have addresses that the world outside knows. Pods see each
	// other's own.
	rule := fmt.Sprintf("POSTROUTING -s %s ! -d %s -j MASQUERADE", ranges[node], podNetwork)
	fmt.Fprintf(&script, "iptables -w -t nat -C %[1]s 2>/dev/null || iptables -w -t nat -A %[1]s\n", rule)
	return script.String()
}

// conflist is the configuration of a node's CNI plugins.
func conflist(pods string) string {
	type object = map[string]any
	text, err := json.Marshal(object{
		"cniVersion": "1.0.0", "name": "studio-go-runner",
		"plugins": []object{
			{"type": "ptp", "ipMasq": false, "ipam": object{
				"type": "host-local", "dataDir": "/run/cni-ipam-state", // pods do not survive their node
				"ranges": [][]object{{{"subnet": pods}}}, "routes": []object{{"dst": "0.0.0.0/0"}},
			}},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
		},
	})
	if err != nil {
		panic(err) // it is made of strings
	}
	return string(text)
}
