package kind

import (
	"context"
	"io"
	"strings"
	"time"
)

// ControlPlane is the name of the node with the API server.
func (c *Cluster) ControlPlane() string { return c.Name + "-control-plane" }

// Workers are the names of the other nodes.
func (c *Cluster) Workers() []string { return []string{c.Name + "-worker", c.Name + "-worker2"} }

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
