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
			another := newCluster(Handle{Name: "studio-go-runner-another"})
			another.keep = false
			all, err := another.makeDir()
			if err != nil {
				t.Error(err)
				return
			}
			for _, left := range append(all, another) {
				if _, lives := living.Load(left.Name); lives {
					t.Errorf("%s is in use and was taken", left.Name)
				}
				_ = os.RemoveAll(left.dir)
				left.held.Close()
			}
		}
	})
	for n := range 500 {
		c := newCluster(Handle{Name: fmt.Sprint("studio-go-runner-", n)})
		c.keep = false
		living.Store(c.Name, true)
		if _, err := c.makeDir(); err != nil {
			t.Fatal(err)
		}
		living.Delete(c.Name)
		_ = os.RemoveAll(c.dir)
		c.held.Close()
		if t.Failed() {
			break
		}
	}
	close(done)
	sweeper.Wait()

	c := newCluster(Handle{Name: "studio-go-runner-b"})
	c.keep = false
	if _, err := c.makeDir(); err != nil {
		t.Fatal(err)
	}
	c.held.Close() // as the kernel does for a process that is killed
	next := newCluster(Handle{Name: "studio-go-runner-c"})
	next.keep = false
	left, err := next.makeDir()
	if err != nil || len(left) != 1 || left[0].Name != c.Name || left[0].dir != c.dir || left[0].Kubeconfig != filepath.Join(c.dir, "kubeconfig") {
		t.Fatalf("got %+v, %v", left, err)
	}
}
