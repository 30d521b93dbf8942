package task_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/task"
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

// outputs are what is in the directory of an output now, and how much that is.
func outputs(t *testing.T, spec task.Spec) (text string, size int) {
	t.Helper()
	paths, err := filepath.Glob(spec.Stdout + "*")
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(paths, func(a, b string) int {
		head, between, _ := api.ParseOutputPart(spec.Stdout, a)
		head2, between2, _ := api.ParseOutputPart(spec.Stdout, b)
		return cmp.Compare(head+between, head2+between2)
	})
	for _, path := range paths {
		part, _ := os.ReadFile(path) // it may have gone since
		text += string(part)
	}
	return text, len(text)
}

// A task prints much, and then a traceback: what is kept is the begin and the end,
// never more than the limit, and the end is there while it runs.
func TestOutputLimit(t *testing.T) {
	pids := newPidPipe(t)
	end := filepath.Join(t.TempDir(), "end")
	if err := unix.Mkfifo(end, 0o600); err != nil {
		t.Fatal(err)
	}
	const limit, all = 1000, 5*100_000 + 10
	spec := newSpec(t, shell(fmt.Sprintf("seq -w 0 99999 | sed 's/.$/x/' | head -c 500000; echo traceback; echo $$ >%s; read x <%s; head -c 1000 /dev/zero >&2", pids, end)))
	spec.OutputLimit = limit
	_, _, _, result := started(t, spec, pids)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if text, size := outputs(t, spec); strings.HasSuffix(text, "traceback\n") {
			if size > limit {
				t.Fatalf("%d bytes are on the disk", size)
			}
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("while it runs there is %q", text)
		}
	}
	if err := os.WriteFile(end, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := result()
	if got.Outcome != api.Succeeded || !got.StdoutTruncated || got.StderrTruncated {
		t.Errorf("%s (%s), stdout truncated %t, stderr truncated %t; want Succeeded, true, false",
			got.Outcome, got.Reason, got.StdoutTruncated, got.StderrTruncated)
	}
	if n := len(read(t, spec.Stderr)); n != limit {
		t.Errorf("%d bytes of as many as the limit are kept", n)
	}
	text, size := outputs(t, spec)
	head, tail, ok := strings.Cut(text, "\n… ")
	left, tail, ok2 := strings.Cut(tail, " left out …\n")
	if !ok || !ok2 || !strings.HasPrefix(head, "0000x\n0000x\n") || !strings.HasSuffix(tail, "traceback\n") {
		t.Fatalf("kept is %q, want the begin, a mark, and the end", text)
	}
	out := int64(all - len(head) - len(tail))
	if left != api.Amount(out) || got.StdoutLeftOut != out || got.StderrLeftOut != 0 || size > limit+100 {
		t.Errorf("%d bytes are kept and %s (%d) left out, want %d", size, left, got.StdoutLeftOut, out)
	}
	if files, _ := filepath.Glob(spec.Stdout + ".*"); len(files) > 0 {
		t.Errorf("left are %q", files)
	}
}

// Nothing can be kept: the task does not notice, and no part is left.
func TestOutputOnFullDisk(t *testing.T) {
	spec := newSpec(t, shell("seq 100000; echo traceback"))
	if err := os.Symlink("/dev/full", spec.Stdout); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(spec.Stdout)
	if got := run(t, spec); got.Outcome != api.Succeeded || !got.StdoutTruncated {
		t.Errorf("%s (%s), truncated %t; want Succeeded, true", got.Outcome, got.Reason, got.StdoutTruncated)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "stdout.*")); len(files) > 0 {
		t.Errorf("left are %q", files)
	}
}

// A task puts links where the parts of its output are going to be, or where they are kept.
func TestPartsFollowNoLink(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"a part":    `for n in $(seq 0 125 1000); do ln -s %[1]s/outside %[2]s/stdout.500+$n; done`,
		"all of it": `mv %[2]s %[2]s.away; ln -s %[1]s %[2]s`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "kept")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			spec := newSpec(t, shell(fmt.Sprintf(script, filepath.Dir(outside), dir)+"; head -c 3000 /dev/zero"))
			spec.Stdout, spec.Parts, spec.OutputLimit = filepath.Join(dir, "stdout"), openRoot(t, dir), 1000
			if got := run(t, spec); got.Outcome != api.Succeeded || !got.StdoutTruncated {
				t.Errorf("%s (%s), truncated %t; want Succeeded, true", got.Outcome, got.Reason, got.StdoutTruncated)
			}
			if text := read(t, outside); text != "mine" {
				t.Errorf("what a link leads to is %q now", text)
			}
			if there, err := os.ReadDir(filepath.Dir(outside)); err != nil || len(there) != 1 {
				t.Errorf("there are %v, %v", there, err)
			}
		})
	}
}

// The disk fills up when the begin is kept: of the parts after it none is left.
func TestOutputThatFillsTheDisk(t *testing.T) {
	spec := newSpec(t, shell("head -c 2000000 /dev/zero"))
	disk := t.TempDir()
	if err := unix.Mount("output", disk, "tmpfs", 0, "size=600k"); err != nil {
		t.Skipf("only root can make a small disk: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	spec.Stdout, spec.Parts, spec.OutputLimit = filepath.Join(disk, "stdout"), openRoot(t, disk), 1<<20
	if got := run(t, spec); got.Outcome != api.Succeeded || !got.StdoutTruncated || got.StdoutLeftOut < 1_300_000 {
		t.Errorf("%s (%s), truncated %t, %d bytes left out", got.Outcome, got.Reason, got.StdoutTruncated, got.StdoutLeftOut)
	}
	if files, _ := filepath.Glob(spec.Stdout + ".*"); len(files) > 0 {
		t.Errorf("left are %q", files)
	}
}
