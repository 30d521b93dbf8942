package task_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Another process of the user opens the output of a task, and keeps it.
func TestOutputThatAnotherProcessHolds(t *testing.T) {
	pids := newPidPipe(t)
	end := filepath.Join(t.TempDir(), "end")
	if err := unix.Mkfifo(end, 0o600); err != nil {
		t.Fatal(err)
	}
	spec := newSpec(t, shell(fmt.Sprintf("echo $$ >%s; read x <%s; echo done", pids, end)))
	spec.KillDelay = 10 * time.Millisecond
	pid, _, _, result := started(t, spec, pids)
	held, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/1", pid), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := os.WriteFile(end, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := result()
	if got.Outcome != api.Succeeded || !strings.Contains(got.Reason, "kept its output open") {
		t.Errorf("%s (%s), want Succeeded, and who held its output", got.Outcome, got.Reason)
	}
	if text := read(t, spec.Stdout); text != "done\n" {
		t.Errorf("output %q, want what came up to its end", text)
	}
}
