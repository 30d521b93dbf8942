package kind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/kind/pkg/cluster/constants"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/cluster/nodeutils"
	kindexec "sigs.k8s.io/kind/pkg/exec"
)

// ControlPlane is the name of the node with the API server.
func (c *Cluster) ControlPlane() (string, error) {
	names, err := c.names(constants.ControlPlaneNodeRoleValue)
	if err == nil && len(names) != 1 {
		err = fmt.Errorf("the cluster has %d control planes, not 1", len(names))
	}
	if err != nil {
		return "", err
	}
	return names[0], nil
}

// Workers are the names of the other nodes.
func (c *Cluster) Workers() ([]string, error) { return c.names(constants.WorkerNodeRoleValue) }

// names are those of the nodes with a role.
func (c *Cluster) names(role string) ([]string, error) {
	all, err := c.nodes()
	if err != nil {
		return nil, err
	}
	selected, err := nodeutils.SelectNodesByRole(all, role)
	if err != nil {
		return nil, said(err)
	}
	var names []string
	for _, node := range selected {
		names = append(names, node.String())
	}
	return names, nil
}

// nodes are all nodes, the stopped ones too.
func (c *Cluster) nodes() ([]nodes.Node, error) {
	all, err := c.provider.ListInternalNodes(c.Name)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", said(err))
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the kind cluster %s has no nodes; it was deleted", c.Name)
	}
	return all, nil
}

// node is the one with that name.
func (c *Cluster) node(name string) (nodes.Node, error) {
	all, err := c.nodes()
	if err != nil {
		return nil, err
	}
	for _, node := range all {
		if node.String() == name {
			return node, nil
		}
	}
	return nil, fmt.Errorf("the kind cluster %s has no node %s", c.Name, name)
}

// Run runs a program in a node, with stdin if it is not nil, and returns its
// output. The error has what it says.
func (c *Cluster) Run(ctx context.Context, node string, stdin io.Reader, program string, args ...string) (string, error) {
	n, err := c.node(node)
	if err != nil {
		return "", err
	}
	return run(ctx, n, stdin, program, args...)
}

// run is Run for a node that was found.
func run(ctx context.Context, node nodes.Node, stdin io.Reader, program string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := node.CommandContext(ctx, program, args...).SetStdout(&stdout).SetStderr(&stderr)
	if stdin != nil {
		cmd = cmd.SetStdin(stdin)
	}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", fmt.Errorf("run %s in %s: %w: %s", program, node, cause(err), strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// LoadArchive loads the images of a docker or OCI archive into all nodes.
func (c *Cluster) LoadArchive(ctx context.Context, archive string) error {
	all, err := c.nodes()
	if err != nil {
		return err
	}
	var group errgroup.Group
	for _, node := range all {
		group.Go(func() error {
			file, err := os.Open(archive)
			if err != nil {
				return err
			}
			defer file.Close()
			if err := nodeutils.LoadImageArchive(cancellable{node, ctx}, file); err != nil {
				return fmt.Errorf("load %s into %s: %w", archive, node, said(err))
			}
			return nil
		})
	}
	err = group.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// StopNode stops a node as a machine that loses its power does.
func (c *Cluster) StopNode(ctx context.Context, node string) error {
	if _, err := c.node(node); err != nil {
		return err
	}
	_, err := docker(ctx, "kill", node)
	return err
}

// StartNode starts a node that was stopped and waits until pods run on it again.
func (c *Cluster) StartNode(ctx context.Context, node string) error {
	if _, err := c.node(node); err != nil {
		return err
	}
	began := time.Now()
	if _, err := docker(ctx, "start", node); err != nil {
		return err
	}
	// Its routes are gone, and its address may be another one. It may have the API
	// server.
	if err := c.network(ctx); err != nil {
		return fmt.Errorf("set up the pod network: %w", err)
	}
	return until(func(ctx context.Context) error { return c.backSince(ctx, node, began) })(ctx)
}

// cancellable has every command in a node end with ctx; kind's helpers have
// theirs without one.
type cancellable struct {
	nodes.Node
	ctx context.Context
}

func (c cancellable) Command(program string, args ...string) kindexec.Cmd {
	return c.CommandContext(c.ctx, program, args...)
}

// said adds to an error what the program said, which kind's errors leave out.
func said(err error) error {
	if failed := kindexec.RunErrorForError(err); failed != nil && len(failed.Output) > 0 {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(failed.Output))
	}
	return err
}

// cause is the error under kind's, which repeats the command line.
func cause(err error) error {
	var failed *kindexec.RunError
	if errors.As(err, &failed) && failed.Inner != nil {
		return failed.Inner
	}
	return err
}
