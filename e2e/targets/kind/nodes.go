package kind

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Labels of kind on the containers that are nodes.
const (
	clusterLabel = "io.x-k8s.kind.cluster"
	roleLabel    = "io.x-k8s.kind.role"
)

// ControlPlane is the name of the node with the API server.
func (c *Cluster) ControlPlane() (string, error) {
	names, err := c.nodes(context.Background(), "--filter=label="+roleLabel+"=control-plane")
	if err == nil && len(names) != 1 {
		err = fmt.Errorf("the cluster has %d control planes, not 1", len(names))
	}
	if err != nil {
		return "", err
	}
	return names[0], nil
}

// Workers are the names of the other nodes, in order.
func (c *Cluster) Workers() ([]string, error) {
	return c.nodes(context.Background(), "--filter=label="+roleLabel+"=worker")
}

// nodes are the names of all nodes, the stopped ones too, or of those that pass
// more filters.
func (c *Cluster) nodes(ctx context.Context, filters ...string) ([]string, error) {
	args := append([]string{"ps", "--all", "--format={{.Names}}", "--filter=label=" + clusterLabel + "=" + c.Name}, filters...)
	out, err := docker(ctx, nil, args...)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	names := strings.Fields(out)
	if len(names) == 0 {
		return nil, fmt.Errorf("the kind cluster %s has no such nodes; it was deleted", c.Name)
	}
	slices.Sort(names)
	return names, nil
}

// Run runs a program in a node, with stdin if it is not nil, and returns its
// output. The error has what it says.
func (c *Cluster) Run(ctx context.Context, node string, stdin io.Reader, program string, args ...string) (string, error) {
	return docker(ctx, stdin, append([]string{"exec", "--interactive", "--privileged", node, program}, args...)...)
}

// LoadArchive loads the images of a docker or OCI archive into nodes.
func (c *Cluster) LoadArchive(ctx context.Context, archive string, nodes ...string) error {
	return c.kind(ctx, "load", "image-archive", archive, "--name", c.Name, "--nodes", strings.Join(nodes, ","))
}

// StopNode stops a node as a machine that loses its power does.
func (c *Cluster) StopNode(ctx context.Context, node string) error {
	_, err := docker(ctx, nil, "kill", node)
	return err
}

// StartNode starts a node that was stopped and waits until pods run on it again.
func (c *Cluster) StartNode(ctx context.Context, node string) error {
	began := time.Now()
	if _, err := docker(ctx, nil, "start", node); err != nil {
		return err
	}
	return until(func(ctx context.Context) error { return c.backSince(ctx, node, began) })(ctx)
}
