package kind

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
)

// A cluster outlives the process that made it, and Docker even starts its nodes
// again. So each has a directory that its process holds a lock on: the kernel drops
// the locks of a process that is killed.

// makeDir makes the cluster's directory, and returns the clusters whose process is
// gone. They are held by this one then.
func (c *Cluster) makeDir() (left []*Cluster, err error) {
	if c.keep {
		c.dir, err = os.MkdirTemp("", "studio-go-runner-kind-*")
		return nil, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	parent := filepath.Join(cache, "studio-go-runner", "clusters")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, err
	}
	// Between a directory and its lock nobody may take the cluster for one that was left.
	all, err := lock(parent, syscall.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer all.Close()
	dirs, _ := filepath.Glob(filepath.Join(parent, "studio-go-runner-*"))
	for _, dir := range dirs {
		if held, err := lock(dir, syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			one := newCluster(Handle{Name: filepath.Base(dir), Kubeconfig: filepath.Join(dir, "kubeconfig"), Kind: c.Handle.Kind})
			one.dir, one.held, one.out = dir, held, c.out
			left = append(left, one)
		}
	}
	c.dir = filepath.Join(parent, c.Name)
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		return left, err
	}
	c.held, err = lock(c.dir, syscall.LOCK_EX)
	return left, err
}

// lock locks a directory for this process, until the file is closed.
func lock(dir string, how int) (*os.File, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), how); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// sweep deletes clusters whose process is gone.
func sweep(ctx context.Context, left []*Cluster) {
	for _, one := range left {
		one.say("deleting the kind cluster %s, which a run left that was killed", one.Name)
		if err := one.delete(ctx); err != nil {
			one.say("%v", err)
		}
		one.held.Close()
	}
}
