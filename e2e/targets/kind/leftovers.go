package kind

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// A cluster outlives the process that made it, and Docker even starts its nodes
// again. So each has a file that its process holds a lock on: the kernel drops
// the locks of a process that is killed.

// register makes the cluster's file, unless the cluster is to be kept. Nobody sees
// the file before it is written and locked: who locked it first would take the
// cluster for one that was left.
func (c *Cluster) register() error {
	if c.keep {
		return nil
	}
	path, err := registration(c.Name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	if err = lock(file); err == nil {
		_, err = file.WriteString(c.dir)
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		os.Remove(file.Name())
		file.Close()
		return err
	}
	c.release = func() { file.Close() }
	return nil
}

// lock locks a file for its process, or says that another one has.
func lock(file *os.File) error { return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// unregister removes the file of a cluster that is gone.
func (c *Cluster) unregister() {
	if path, err := registration(c.Name); err == nil {
		_ = os.Remove(path) // the next sweep would do it
	}
}

// registration is the file of a cluster.
func registration(name string) (string, error) {
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "studio-go-runner", "clusters", name), err
}

// sweep deletes the clusters whose process is gone.
func sweep(ctx context.Context, config Config) {
	pattern, err := registration("studio-go-runner-*")
	if err != nil {
		return
	}
	files, err := filepath.Glob(pattern)
	if err != nil {
		return
	}
	for _, path := range files {
		left, err := abandoned(path)
		if err != nil {
			continue
		}
		left.Kind, left.out = config.Kind, config.Progress
		left.say("deleting the kind cluster %s, which a run left that was killed", left.Name)
		if err := left.delete(ctx); err != nil {
			left.say("%v", err)
		}
		left.release()
	}
}

// abandoned is the cluster of a file that no process holds; the caller holds it
// then. It is an error if one does.
func abandoned(path string) (*Cluster, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	err = lock(file)
	var dir []byte
	if err == nil {
		dir, err = io.ReadAll(file)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	c := newCluster(Handle{Name: filepath.Base(path), Kubeconfig: filepath.Join(string(dir), "kubeconfig")})
	c.dir, c.release = string(dir), func() { file.Close() }
	return c, nil
}
