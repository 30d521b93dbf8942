package kind

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	e2ekind "sigs.k8s.io/e2e-framework/support/kind"
	"sigs.k8s.io/kind/pkg/cluster"

	"github.com/studioml/studio-go-runner/e2e/docker"
)

const (
	// createTimeout is for kind create, which takes 25 s on two idle cores.
	createTimeout = 5 * time.Minute
	// readyTimeout is for what follows until CoreDNS answers, 10 s there.
	readyTimeout = 3 * time.Minute
	// closeTimeout is for kind delete, which takes 3 s.
	closeTimeout = 2 * time.Minute
)

// Config says how a cluster is made.
type Config struct {
	Docker *docker.Docker
	// Kind is the program.
	Kind string
	// Image is what ChooseNodeImage returned.
	Image NodeImage
	// ConfigFile is the repository's kind-config.yaml.
	ConfigFile string
	// Shared is a directory of this machine that all nodes have at SharedDir.
	Shared string
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
	// DockerHost is what DOCKER_HOST must be, empty for the user's settings.
	DockerHost string `json:"dockerHost"`
	// Kind is the program.
	Kind string `json:"kind"`
	// OurNetwork says that the pod network is ours to set up.
	OurNetwork bool `json:"ourNetwork"`
}

// Cluster is a kind cluster whose nodes are ready.
type Cluster struct {
	Handle

	docker   *docker.Docker
	provider *cluster.Provider
	client   kubernetes.Interface

	// What only the process has that made it.
	dir     string
	keep    bool
	release func()
	out     io.Writer
}

// Create makes a cluster and waits until its nodes are ready and CoreDNS
// answers. It also deletes clusters of runs that were killed.
func Create(ctx context.Context, config Config) (_ *Cluster, err error) {
	began := time.Now()
	if err := config.Docker.Use(); err != nil { // kind knows only the environment
		return nil, err
	}
	if _, err := os.Stat(config.Kind); err != nil {
		return nil, fmt.Errorf("kind is not built; make bin/kind does it: %w", err)
	}
	sweep(ctx, config)
	dir, err := os.MkdirTemp("", "studio-go-runner-kind-*")
	if err != nil {
		return nil, err
	}
	name := "studio-go-runner-" + strings.ToLower(rand.Text()[:6])
	c := &Cluster{
		Handle: Handle{
			Name: name, Kubeconfig: filepath.Join(dir, "kubeconfig"), DockerHost: config.Docker.Host,
			Kind: config.Kind, OurNetwork: config.Image.Ours,
		},
		docker: config.Docker, provider: cluster.NewProvider(cluster.ProviderWithDocker()),
		dir: dir, keep: config.Keep, release: func() {}, out: config.Progress,
	}
	defer func() {
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		err = errors.Join(fmt.Errorf("create kind cluster: %w", err), c.giveUp(ctx, config.Logs))
	}()
	if err := c.register(ctx, config.Keep); err != nil {
		return nil, err
	}
	c.say("creating the kind cluster %s, about 30 s", name)
	if err := c.create(ctx, config); err != nil {
		return nil, err
	}
	c.say("its nodes were made in %s", since(began))
	if err := c.connect(); err != nil {
		return nil, err
	}
	if err := c.ready(ctx, began); err != nil {
		return nil, err
	}
	if config.Keep {
		c.say("%s", c.Look())
	}
	return c, nil
}

// Look says how people look into a cluster that is kept, and delete it.
func (c *Cluster) Look() string {
	return fmt.Sprintf("the cluster is kept: export KUBECONFIG=%s\ndelete it with: %s%s delete cluster --name %s",
		c.Kubeconfig, dockerHost(c.DockerHost), c.Handle.Kind, c.Name)
}

// dockerHost is the assignment for a command line.
func dockerHost(host string) string {
	if host == "" {
		return ""
	}
	return "DOCKER_HOST=" + host + " "
}

// Connect returns the cluster of a handle that another process made. Its Close
// does nothing.
func Connect(h Handle) (*Cluster, error) {
	c := &Cluster{
		Handle: h, docker: &docker.Docker{Host: h.DockerHost}, keep: true,
		provider: cluster.NewProvider(cluster.ProviderWithDocker()), release: func() {}, out: io.Discard,
	}
	if err := c.docker.Use(); err != nil {
		return nil, err
	}
	return c, c.connect()
}

// create runs kind through e2e-framework, which passes strings to it that it
// splits itself: all paths are in our own directory.
func (c *Cluster) create(ctx context.Context, config Config) error {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	if err := plain(c.dir); err != nil {
		return err
	}
	file, err := writeConfig(config.ConfigFile, c.dir, config.Image, config.Shared)
	if err != nil {
		return err
	}
	program, err := filepath.Abs(config.Kind)
	if err != nil {
		return err
	}
	link := filepath.Join(c.dir, "kind")
	if err := os.Symlink(program, link); err != nil {
		return err
	}
	framework := e2ekind.NewCluster(c.Name)
	framework.WithPath(link)
	framework.WithOpts(e2ekind.WithImage(config.Image.Name))
	copied, err := framework.Create(ctx, "--retain", "--config", file, "--kubeconfig", c.Kubeconfig)
	if copied != "" {
		_ = os.Remove(copied) // a second kubeconfig, in a directory that nobody empties
	}
	if err == nil {
		return nil
	}
	err = readable(err)
	if ctx.Err() != nil {
		return fmt.Errorf("kind does not end in %s: %w", createTimeout, err)
	}
	return err
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
		fmt.Fprintf(&text, "\n%s is %d, enough for one cluster of three nodes; if there are more: sysctl -w %s=512", limit, instances, limit)
	}
	return errors.New(text.String())
}

// connect makes the client.
func (c *Cluster) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return err
	}
	c.client, err = kubernetes.NewForConfig(config)
	return err
}

// Close deletes the cluster, unless it is to be kept.
func (c *Cluster) Close(ctx context.Context) error {
	defer c.release()
	if c.keep {
		return nil
	}
	began := time.Now()
	if err := c.delete(ctx); err != nil {
		return err
	}
	c.say("the kind cluster %s was deleted in %s", c.Name, since(began))
	return nil
}

// delete deletes the cluster's containers and files.
func (c *Cluster) delete(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	if err := c.kind(ctx, "delete", "cluster", "--name", c.Name, "--kubeconfig", c.Kubeconfig); err != nil {
		return err
	}
	c.unregister()
	return os.RemoveAll(c.dir)
}

// giveUp removes what there is of a cluster that did not come up, even if ctx has
// ended. It keeps the logs, and everything if that was wished.
func (c *Cluster) giveUp(ctx context.Context, logs string) error {
	if ctx.Err() != nil {
		// A docker run that kind had begun when it was killed makes its container
		// all the same, a moment later.
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
	return c.kind(ctx, "export", "logs", dir, "--name", c.Name)
}

// kind runs the program; the error has what it says.
func (c *Cluster) kind(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, c.Kind, args...)
	cmd.Env = c.docker.Environ()
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("kind %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// say tells the progress.
func (c *Cluster) say(format string, args ...any) { fmt.Fprintf(c.out, format+"\n", args...) }

// since is how long it took, for people.
func since(began time.Time) time.Duration { return time.Since(began).Round(100 * time.Millisecond) }
