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

// clusters is where the directories of clusters are that are not to be kept.
func clusters() (string, error) {
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "studio-go-runner", "clusters"), err
}

// makeDir makes the cluster's directory. Nobody sees it before it is locked: who
// locked it first would take the cluster for one that was left.
func (c *Cluster) makeDir() (err error) {
	if c.keep {
		c.dir, err = os.MkdirTemp("", "studio-go-runner-kind-*")
		return err
	}
	parent, err := clusters()
	if err == nil {
		err = os.MkdirAll(parent, 0o755)
	}
	if err != nil {
		return err
	}
	hidden, err := os.MkdirTemp(parent, ".new-*")
	if err != nil {
		return err
	}
	c.dir = filepath.Join(parent, c.Name)
	if err = c.lock(hidden); err == nil {
		err = os.Rename(hidden, c.dir)
	}
	if err != nil {
		os.Remove(hidden)
	}
	return err
}

// lock locks a directory of the cluster for this process, or says that another one
// has.
func (c *Cluster) lock(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return err
	}
	c.release = func() { file.Close() }
	return nil
}

// sweep deletes the clusters whose process is gone.
func sweep(ctx context.Context, config Config) {
	for _, left := range abandoned() {
		left.Handle.Kind, left.out = config.Kind, config.Progress
		left.say("deleting the kind cluster %s, which a run left that was killed", left.Name)
		if err := left.delete(ctx); err != nil {
			left.say("%v", err)
		}
		left.release()
	}
}

// abandoned are the clusters that no process holds; the caller holds them then.
func abandoned() (all []*Cluster) {
	parent, _ := clusters() // without it there are none
	dirs, _ := filepath.Glob(filepath.Join(parent, "studio-go-runner-*"))
	for _, dir := range dirs {
		c := newCluster(Handle{Name: filepath.Base(dir), Kubeconfig: filepath.Join(dir, "kubeconfig")})
		if c.dir = dir; c.lock(dir) == nil {
			all = append(all, c)
		}
	}
	return all
}
