package supervise_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/internal/supervise"
)

// Orphans that come from elsewhere, as from kubectl exec to a runner that is the
// first process, are collected, while nobody loses the exit status of a child.
func TestReap(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var reaper sync.WaitGroup
	reaper.Go(func() { supervise.Reap(ctx) })
	defer reaper.Wait()
	defer cancel()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 20 {
				// The orphan, in a session of its own, ends after its parent.
				script := fmt.Sprintf("(setsid sh -c 'sleep 0.0%d' &); exit %d", i%5, i)
				err := exec.Command("sh", "-c", script).Run()
				if got := exitCode(err); got != i {
					t.Errorf("exit status %d (%v), want %d", got, err, i)
				}
			}
		})
	}
	all.Wait()
	var left string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if left = childrenOfThis(t); left == "" {
			return
		}
	}
	t.Errorf("children that nobody waits for: %s", left)
}

func exitCode(err error) int {
	switch e := err.(type) {
	case nil:
		return 0
	case *exec.ExitError:
		return e.ExitCode()
	}
	return -1
}

func childrenOfThis(t *testing.T) (all string) {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		text, _ := os.ReadFile("/proc/self/task/" + thread.Name() + "/children")
		all += string(text)
	}
	return strings.TrimSpace(all)
}
