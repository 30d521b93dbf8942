package kind

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
)

// A sweep that goes on while clusters are made takes none of them, and takes each
// once its process is gone.
func TestSweepSparesTheLiving(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	made := func(name string, out io.Writer) *Cluster {
		c := &Cluster{Handle: Handle{Name: "studio-go-runner-" + name, Kind: "true"}, out: out}
		if err := c.makeDir(); err != nil {
			t.Error(err)
		}
		return c
	}
	end := func(c *Cluster) {
		if _, err := os.Stat(c.dir); err != nil {
			t.Errorf("%s is in use and was taken: %v", c.Name, err)
		}
		if err := errors.Join(os.RemoveAll(c.dir), c.held.Close()); err != nil {
			t.Error(err)
		}
	}
	done := make(chan struct{})
	var sweeper sync.WaitGroup
	sweeper.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				another := made("another", io.Discard)
				another.sweep(t.Context())
				end(another)
			}
		}
	})
	for n := range 500 {
		end(made(fmt.Sprint(n), io.Discard))
		if t.Failed() {
			break
		}
	}
	close(done)
	sweeper.Wait()

	var out strings.Builder
	b, c := made("b", io.Discard), made("c", &out)
	c.sweep(t.Context())
	b.held.Close() // as the kernel does for a process that is killed
	c.sweep(t.Context())
	if _, err := os.Stat(b.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is left of %s: %v", b.Name, err)
	}
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, b.Name) {
		t.Errorf("the sweeps say %q", got)
	}
	end(c)
}
