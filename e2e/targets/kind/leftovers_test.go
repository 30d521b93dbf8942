package kind

import (
	"fmt"
	"os"
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
			for _, left := range abandoned() {
				if _, lives := living.Load(left.Name); lives {
					t.Errorf("%s is in use and was taken", left.Name)
				}
				_ = os.RemoveAll(left.dir)
				left.release()
			}
		}
	})
	for n := range 500 {
		c := newCluster(Handle{Name: fmt.Sprint("studio-go-runner-", n)})
		c.keep = false
		living.Store(c.Name, true)
		if err := c.makeDir(); err != nil {
			t.Fatal(err)
		}
		if other := newCluster(Handle{}); other.lock(c.dir) == nil {
			t.Fatal("the directory of a living cluster can be locked")
		}
		living.Delete(c.Name)
		_ = os.RemoveAll(c.dir)
		c.release()
		if t.Failed() {
			break
		}
	}
	close(done)
	sweeper.Wait()

	c := newCluster(Handle{Name: "studio-go-runner-b"})
	c.keep = false
	if err := c.makeDir(); err != nil {
		t.Fatal(err)
	}
	c.release() // as the kernel does for a process that is killed
	left := abandoned()
	if len(left) != 1 || left[0].Name != c.Name || left[0].dir != c.dir || left[0].Kubeconfig != filepath.Join(c.dir, "kubeconfig") {
		t.Fatalf("got %+v", left)
	}
	left[0].release()
}
