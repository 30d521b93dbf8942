package kind

import (
	"context"
	"os"
	"path/filepath"

	"github.com/studioml/studio-go-runner/e2e/cache"
)

// A cluster outlives the process that made it, and Docker even starts its nodes
// again. So each has a file that its process holds a lock on: the kernel drops
// the locks of a process that is killed.

// register makes the cluster's file, unless the cluster is to be kept.
func (c *Cluster) register(ctx context.Context, keep bool) error {
	if keep {
		return nil
	}
	path, err := registration(c.Name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	release, err := cache.Lock(ctx, path, func() {})
	if err != nil {
		return err
	}
	c.release = release
	return os.WriteFile(path, []byte(c.dir), 0o600)
}

// unregister removes the file of a cluster that is gone.
func (c *Cluster) unregister() {
	if path, err := registration(c.Name); err == nil {
		_ = os.Remove(path) // the next sweep would do it
	}
}

// registration is the file of a cluster.
func registration(name string) (string, error) {
	dir, err := cache.Dir()
	return filepath.Join(dir, "clusters", name), err
}

// sweep deletes the clusters whose process is gone.
func sweep(ctx context.Context, config Config) {
	pattern, err := registration("*")
	if err != nil {
		return
	}
	files, err := filepath.Glob(pattern)
	if err != nil {
		return
	}
	for _, file := range files {
		locking, cancel := context.WithCancel(ctx)
		release, err := cache.Lock(locking, file, cancel) // in use: do not wait
		cancel()
		if err != nil {
			continue
		}
		dir, err := os.ReadFile(file)
		if err != nil || len(dir) == 0 {
			dir = []byte(filepath.Join(os.TempDir(), filepath.Base(file))) // killed before it wrote it
		}
		left := &Cluster{
			Handle: Handle{Name: filepath.Base(file), Kind: config.Kind, Kubeconfig: filepath.Join(string(dir), "kubeconfig")},
			docker: config.Docker, dir: string(dir), out: config.Progress,
		}
		left.say("deleting the kind cluster %s, which a run left that was killed", left.Name)
		if err := left.delete(ctx); err != nil {
			left.say("%v", err)
		}
		release()
	}
}
