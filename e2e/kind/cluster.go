// Package kind makes a kind cluster for the tests: nodes that are containers of
// the Docker that answers. Where none does, or kind's published node image is out
// of reach, the program e2e/airgap makes both.
package kind

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/e2e/program"
)

const (
	// createTimeout is for kind create, which takes 25 s on two idle cores, and minutes
	// on busy ones.
	createTimeout = 10 * time.Minute
	// readyTimeout is for each step that follows, CoreDNS' included, 10 s there.
	readyTimeout = 10 * time.Minute
	// closeTimeout is for kind delete, which takes 3 s.
	closeTimeout = 2 * time.Minute
)

// Config says how a cluster is made. Docker is the one of the environment.
type Config struct {
	// Kind is the program.
	Kind string
	// Image is what nodes are made of, empty for kind's published image.
	Image string
	// ConfigFile is the repository's kind-config.yaml.
	ConfigFile string
	// Logs is a directory for the nodes' logs if the cluster does not come up;
	// empty for none.
	Logs string
	// Keep has Close leave the cluster.
	Keep     bool
	Progress io.Writer
}

// Handle is all that another process needs to use a cluster. It is plain data,
// for JSON.
type Handle struct {
	Name string `json:"name"`
	// Kubeconfig is a file for a user with all rights.
	Kubeconfig string `json:"kubeconfig"`
	// Kind is the program.
	Kind string `json:"kind"`
}

// Cluster is a kind cluster whose nodes are ready. Made of the Handle of one that another
// process made, its Close does nothing.
type Cluster struct {
	Handle

	// What only the process has that made it.
	dir  string
	held *os.File // the directory, locked; nil if the cluster is to be kept
	out  io.Writer
}

// Create makes a cluster and waits until its nodes are ready; AwaitDNS is for later, for
// CoreDNS takes a while to find that it is. It also deletes clusters of runs that were killed.
func Create(ctx context.Context, config Config) (_ *Cluster, err error) {
	if _, err := os.Stat(config.Kind); err != nil {
		return nil, fmt.Errorf("kind is not built; make bin/kind does it: %w", err)
	}
	c := &Cluster{
		Handle: Handle{Name: "studio-go-runner-" + strings.ToLower(rand.Text()[:6]), Kind: config.Kind},
		out:    config.Progress,
	}
	if config.Keep {
		c.dir, err = os.MkdirTemp("", "studio-go-runner-kind-*")
	} else if err = c.makeDir(); err == nil {
		c.sweep(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("make the cluster's directory: %w", err)
	}
	c.Kubeconfig = filepath.Join(c.dir, "kubeconfig")
	began := time.Now()
	c.say("making the kind cluster %s, about 40 s", c.Name)
	err = BringUp(ctx, c.out,
		Action{"create the nodes", func(ctx context.Context) error { return c.create(ctx, config) }},
		Action{"wait until all nodes are ready", c.kubectl("wait", "--for=condition=Ready", "node", "--all")},
	)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, errors.Join(fmt.Errorf("make kind cluster: %w", err), c.giveUp(ctx, config.Logs))
	}
	c.say("the kind cluster is up after %s", since(began))
	if config.Keep {
		c.say("%s", c.Look())
	}
	return c, nil
}

// AwaitDNS waits until CoreDNS answers, the last that a new cluster starts.
func (c *Cluster) AwaitDNS(ctx context.Context) error {
	return c.kubectl("rollout", "status", "--namespace=kube-system", "deployment/coredns")(ctx)
}

// Look says how people look into a cluster that is kept, and delete it.
func (c *Cluster) Look() string {
	daemon := ""
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		daemon = "DOCKER_HOST=" + host + " "
	}
	return fmt.Sprintf("the cluster is kept: export KUBECONFIG=%s\ndelete it with: %s%s delete cluster --name %s",
		c.Kubeconfig, daemon, c.Handle.Kind, c.Name)
}

// create runs kind.
func (c *Cluster) create(ctx context.Context, config Config) error {
	ctx, cancel := context.WithTimeoutCause(ctx, createTimeout, fmt.Errorf("kind does not end in %s", createTimeout))
	defer cancel()
	command := []string{c.Kind, "create", "cluster", "--name", c.Name, "--retain",
		"--config", config.ConfigFile, "--kubeconfig", c.Kubeconfig}
	if config.Image != "" {
		command = append(command, "--image", config.Image)
	}
	if err := run(ctx, command...); err != nil {
		return readable(err)
	}
	return nil
}

// readable is an error of kind without the hundreds of lines in which kubeadm
// notes its requests, and with what kind's own documentation blames first.
func readable(err error) error {
	var text strings.Builder
	for line := range strings.Lines(err.Error()) {
		if !strings.Contains(line, " round_trippers.go:") {
			text.WriteString(line)
		}
	}
	const limit = "fs.inotify.max_user_instances"
	data, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(limit, ".", "/"))
	if instances, e := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && e == nil && instances < 512 {
		fmt.Fprintf(&text, "\n%s is %d, enough for one cluster of four nodes; if there are more: sysctl -w %s=512", limit, instances, limit)
	}
	return errors.New(text.String())
}

// Close deletes the cluster, unless it is to be kept.
func (c *Cluster) Close(ctx context.Context) error {
	if c.held == nil {
		return nil
	}
	defer c.held.Close()
	began := time.Now()
	if err := c.delete(ctx, c.dir); err != nil {
		return err
	}
	c.say("the kind cluster %s was deleted in %s", c.Name, since(began))
	return nil
}

// delete deletes the containers and files of the cluster of a directory, the lock at last.
func (c *Cluster) delete(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	err := run(ctx, c.Kind, "delete", "cluster", "--name", filepath.Base(dir), "--kubeconfig", filepath.Join(dir, "kubeconfig"))
	if err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// giveUp removes what there is of a cluster that did not come up, even if ctx has
// ended. It keeps the logs, and everything if that was wished.
func (c *Cluster) giveUp(ctx context.Context, logs string) error {
	if ctx.Err() != nil {
		// What a docker run had asked for when it was killed is made all the same, a
		// moment later.
		time.Sleep(2 * time.Second)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if logs != "" {
		if err := c.CollectLogs(ctx, logs); err == nil {
			c.say("the logs of its nodes are in %s", logs)
		}
	}
	return c.Close(ctx)
}

// CollectLogs writes the logs of all nodes into a directory.
func (c *Cluster) CollectLogs(ctx context.Context, dir string) error {
	return run(ctx, c.Kind, "export", "logs", dir, "--name", c.Name)
}

// run runs kind or docker; the error has what it says.
func run(ctx context.Context, command ...string) error {
	return program.Run(ctx, os.Environ(), nil, nil, command...)
}

// say tells the progress.
func (c *Cluster) say(format string, args ...any) { fmt.Fprintf(c.out, format+"\n", args...) }

// Action is a step of bringing something up, named for people.
type Action struct {
	Name string
	Do   func(context.Context) error
}

// BringUp does the actions in their order until one fails. It says on out how
// long each took.
func BringUp(ctx context.Context, out io.Writer, actions ...Action) error {
	for _, a := range actions {
		began := time.Now()
		if err := a.Do(ctx); err != nil {
			fmt.Fprintf(out, "failed after %6s: %s\n", since(began), a.Name)
			return fmt.Errorf("%s: %w", a.Name, err)
		}
		fmt.Fprintf(out, "done in %6s: %s\n", since(began), a.Name)
	}
	return nil
}

// since is how long it took, for people.
func since(began time.Time) time.Duration { return time.Since(began).Round(100 * time.Millisecond) }
