package task_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/task"
)

func TestTheResultNamesMemory(t *testing.T) {
	counter := filepath.Join(t.TempDir(), "memory.events")
	defer func(old []string) { *task.MemoryCounters = old }(*task.MemoryCounters)
	*task.MemoryCounters = []string{counter + ".none", counter}
	for _, test := range []struct {
		name, script string
		want         bool
		before       int
	}{
		{"the counter could not be read before", fmt.Sprintf("echo oom_kill 4 >%s; exit 1", counter), false, 3},
		{"ended itself", fmt.Sprintf("echo oom_kill 4 >%s; kill -KILL $$", counter), true, 3},
		{"the first ever", fmt.Sprintf("echo oom_kill 1 >%s; kill -KILL $$", counter), true, 0},
		{"a child was", fmt.Sprintf("printf 'oom 1\\noom_kill 4\\noom_group_kill 0\\n' >%s; exit 137", counter), true, 3},
		{"ended for another reason", "kill -KILL $$", false, 3},
		{"ended well all the same", fmt.Sprintf("echo oom_kill 4 >%s", counter), false, 3},
	} {
		if strings.Contains(test.name, "could not be read") {
			os.Remove(counter)
		} else if err := os.WriteFile(counter, fmt.Appendf(nil, "oom 1\noom_kill %d\n", test.before), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := run(t, newSpec(t, shell(test.script))); strings.Contains(got.Reason, "memory") != test.want {
			t.Errorf("%s: %s (%s), want memory named: %t", test.name, got.Outcome, got.Reason, test.want)
		}
	}
}

// The kernel chooses by the score, which a task passes on to its children.
func TestATaskIsEndedBeforeTheRunner(t *testing.T) {
	spec := newSpec(t, shell("cat /proc/self/oom_score_adj /proc/$PPID/oom_score_adj"))
	if got := run(t, spec); got.Outcome != api.Succeeded {
		t.Fatal(got.Reason)
	}
	own, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	var task, supervisor, runner int
	fmt.Sscan(read(t, spec.Stdout), &task, &supervisor)
	fmt.Sscan(string(own), &runner)
	if supervisor != runner || task != min(runner+200, 1000) {
		t.Errorf("scores of runner, supervisor and task are %d, %d and %d, want the task's to be 200 higher", runner, supervisor, task)
	}
}
