package task_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/task"
)

// A task that takes more room than it may is ended, as its own failure, and one with
// many names for a file is not.
func TestDiskLimit(t *testing.T) {
	defer func(old time.Duration) { *task.DiskPause = old }(*task.DiskPause)
	*task.DiskPause = 10 * time.Millisecond
	for _, test := range []struct {
		name, script string
		limit        int64
		want         api.Outcome
	}{
		{"no limit", "head -c 3000000 /dev/zero >big; sleep 0.3", 0, api.Succeeded},
		{"one file", "head -c 3000000 /dev/zero >big; sleep 60", 2 << 20, api.Failed},
		{"many files", "mkdir -p a/b; for i in 1 2 3 4; do head -c 700000 /dev/zero >a/b/$i; done; sleep 60", 2 << 20, api.Failed},
		{"less than it may", "head -c 1000000 /dev/zero >big; sleep 0.3", 2 << 20, api.Succeeded},
		{"one file with many names", "head -c 1000000 /dev/zero >big; ln big b; ln big c; ln big d; sleep 0.3", 2 << 20, api.Succeeded},
		{"a file that takes nothing", "truncate -s 1G sparse; sleep 0.3", 2 << 20, api.Succeeded},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := newSpec(t, shell(test.script))
			spec.DiskLimit = test.limit
			got := run(t, spec)
			// A goroutine that has said that it ends is still seen for a moment.
			stacks := make([]byte, 1<<20)
			for begin := time.Now(); ; time.Sleep(time.Millisecond) {
				all := stacks[:runtime.Stack(stacks, true)]
				if !bytes.Contains(all, []byte("task.limitDisk")) {
					break
				}
				if time.Since(begin) > 20*time.Second {
					t.Fatalf("somebody looks at what is gone:\n%s", all)
				}
			}
			if got.Outcome != test.want || strings.Contains(got.Reason, "--disk-limit") != (test.want == api.Failed) {
				t.Errorf("%s: %s, want %s", got.Outcome, got.Reason, test.want)
			}
		})
	}
}

// A task that was asked to end by its runner has not failed when it then takes much.
func TestDiskLimitWhenItIsInterrupted(t *testing.T) {
	defer func(old time.Duration) { *task.DiskPause = old }(*task.DiskPause)
	*task.DiskPause = 10 * time.Millisecond
	pids := newPidPipe(t)
	spec := newSpec(t, shell(fmt.Sprintf(`sleep 1000 & trap 'head -c 3000000 /dev/zero >big; sleep 1000' TERM; echo $! >%s; wait`, pids)))
	spec.DiskLimit = 2 << 20
	_, terminate, _, result := started(t, spec, pids)
	terminate(errors.New("the grace period is over"))
	wantInterrupted(t, result(), "SIGKILL", "the grace period is over")
}
