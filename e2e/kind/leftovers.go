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

// makeDir makes the cluster's directory. It gets its name once it is locked: until then
// nobody takes it for one that was left.
func (c *Cluster) makeDir() error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	all := filepath.Join(cache, "studio-go-runner", "clusters")
	if err := os.MkdirAll(all, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(all, "new-*")
	if err == nil {
		c.held, err = lock(dir)
	}
	if err != nil {
		return err
	}
	c.dir = filepath.Join(all, c.Name)
	return os.Rename(dir, c.dir)
}

// lock locks a directory for this process, until the file is closed.
func lock(dir string) (*os.File, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// sweep deletes the clusters beside this one whose process is gone.
func (c *Cluster) sweep(ctx context.Context) {
	dirs, _ := filepath.Glob(filepath.Join(filepath.Dir(c.dir), "studio-go-runner-*"))
	for _, dir := range dirs {
		held, err := lock(dir)
		if err != nil {
			continue // it is somebody's
		}
		c.say("deleting the kind cluster %s, which a run left that was killed", filepath.Base(dir))
		if err := c.delete(ctx, dir); err != nil {
			c.say("%v", err)
		}
		held.Close()
	}
}
