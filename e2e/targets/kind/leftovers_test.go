package kind

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
)

// A sweep that goes on while clusters are made takes none of them, and takes each
// once its process is gone.
func TestSweepSparesTheLiving(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	var living sync.Map // by name
	done := make(chan struct{})
	var sweeper sync.WaitGroup
	sweeper.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			pattern, err := registration("studio-go-runner-*")
			if err != nil {
				t.Error(err)
				return
			}
			files, _ := filepath.Glob(pattern)
			for _, file := range files {
				left, err := abandoned(file)
				if err != nil {
					continue
				}
				if _, lives := living.Load(left.Name); lives {
					t.Errorf("%s is in use and was taken, with the directory %q", left.Name, left.dir)
				}
				left.unregister()
				left.release()
			}
		}
	})
	for n := range 500 {
		c := newCluster(Handle{Name: fmt.Sprint("studio-go-runner-", n)})
		c.keep, c.dir = false, "/dir"
		living.Store(c.Name, true)
		if err := c.register(); err != nil {
			t.Fatal(err)
		}
		path, err := registration(c.Name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := abandoned(path); err == nil {
			t.Fatal("the file of a living cluster can be locked")
		}
		living.Delete(c.Name)
		c.unregister()
		c.release()
		if t.Failed() {
			break
		}
	}
	close(done)
	sweeper.Wait()

	c := newCluster(Handle{Name: "studio-go-runner-b"})
	c.keep, c.dir = false, "/dir"
	if err := c.register(); err != nil {
		t.Fatal(err)
	}
	c.release() // as the kernel does for a process that is killed
	path, err := registration(c.Name)
	if err != nil {
		t.Fatal(err)
	}
	left, err := abandoned(path)
	if err != nil || left.Name != c.Name || left.dir != "/dir" {
		t.Fatalf("got %+v, %v", left, err)
	}
	left.unregister()
	left.release()
}
