package result_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// What is stored of the two directories that a task has, by how it ends.
func TestOutputsAndCheckpoint(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for _, test := range []struct {
		name    string
		before  bool // there is a checkpoint that it resumes from
		do      func(t *testing.T, outputs, checkpoint string)
		outcome api.Outcome
		want    map[string]string // beside result.json and the output
		empty   bool              // an empty checkpoint is stored
		reason  string
	}{
		{name: "nothing", outcome: api.Failed, do: func(*testing.T, string, string) {}},
		{name: "success", outcome: api.Succeeded, before: true, do: func(t *testing.T, o, c string) {
			write(t, o+"/model/weights", "w")
			write(t, c+"/step", "60")
		}, want: map[string]string{"outputs/model/weights": "w"}},
		{name: "interrupted", outcome: api.Interrupted, do: func(t *testing.T, o, c string) {
			write(t, o+"/plot", "p")
			write(t, c+"/deep/step", "17")
		}, want: map[string]string{"outputs/plot": "p", "checkpoint/deep/step": "17"}},
		{name: "what it found", outcome: api.Failed, before: true, do: func(*testing.T, string, string) {},
			want: map[string]string{"checkpoint/step": "1"}},
		{name: "what it found is removed", outcome: api.Failed, before: true, do: func(t *testing.T, _, c string) { os.Remove(c + "/step") }, empty: true},
		{name: "too large", outcome: api.Interrupted, before: true, do: func(t *testing.T, o, c string) {
			write(t, o+"/large", long)
			write(t, c+"/large", long)
		}, reason: "its output directory is not kept: it has more than the 1000 bytes of --output-limit; its checkpoint is not kept: it has more than the 1000 bytes of --checkpoint-limit"},
		{name: "too many", outcome: api.Failed, do: func(t *testing.T, _, c string) {
			for n := range 1001 {
				write(t, filepath.Join(c, strconv.Itoa(n)), "")
			}
		}, reason: "its checkpoint is not kept: it has more than the 1000 bytes"},
		{name: "links, pipes, modes", outcome: api.Failed, do: func(t *testing.T, o, c string) {
			write(t, c+"/dir/closed", "c")
			if err := errors.Join(os.Symlink("/etc/passwd", c+"/link"), unix.Mkfifo(c+"/pipe", 0o600), os.Chmod(c+"/dir/closed", 0), os.Chmod(c+"/dir", 0)); err != nil {
				t.Fatal(err)
			}
		}, want: map[string]string{"checkpoint/dir/closed": "c", "checkpoint/link": "-> /etc/passwd"}},
		{name: "no directories", outcome: api.Failed, do: func(t *testing.T, o, c string) {
			os.Remove(o)
			os.Remove(c)
			write(t, o, "x")
			if err := os.Symlink("/etc", c); err != nil {
				t.Fatal(err)
			}
		}, reason: "its output directory is not kept: it is no directory any more; its checkpoint is not kept: it is no directory any more"},
		{name: "removed", outcome: api.Failed, before: true, do: func(t *testing.T, o, c string) {
			os.RemoveAll(o)
			os.RemoveAll(c)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, dir, _ := newStore(t)
			a := begin(t, s, "a", 1)
			if err := a.Resume(func(dir string) error {
				if test.before {
					write(t, dir+"/step", "1")
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			test.do(t, a.Outputs(), a.Checkpoint())
			r := res("a", 1)
			r.Outcome, r.Reason = test.outcome, ""
			if left, err := a.Close(&r, limits); left != nil || err != nil {
				t.Fatal(left, err)
			}
			if !strings.HasPrefix(r.Reason, test.reason) || (r.Reason == "") != (test.reason == "") || r.Outcome != test.outcome {
				t.Errorf("%s, reason %q, want %s, %q", r.Outcome, r.Reason, test.outcome, test.reason)
			}
			if err := a.Commit(r); err != nil {
				t.Fatal(err)
			}
			at := filepath.Join(dir, "a", "1")
			got := map[string]string{}
			for _, sub := range []string{"outputs", "checkpoint"} {
				filepath.WalkDir(filepath.Join(at, sub), func(path string, d os.DirEntry, err error) error {
					if err != nil || d.IsDir() {
						return err
					}
					name, _ := filepath.Rel(at, path)
					if to, err := os.Readlink(path); err == nil {
						got[name] = "-> " + to
						return nil
					}
					text, err := os.ReadFile(path)
					got[name] = string(text)
					return err
				})
			}
			if want := test.want; len(got)+len(want) > 0 && !cmp.Equal(want, got) {
				t.Errorf("stored, want - got +\n%s", cmp.Diff(want, got))
			}
			entries, err := os.ReadDir(filepath.Join(at, "checkpoint"))
			if empty := err == nil && len(entries) == 0; empty != test.empty {
				t.Errorf("an empty checkpoint is stored: %v, want %v", empty, test.empty)
			}
		})
	}
}

// The machine refuses the copy of a checkpoint: nothing is left of the attempt.
func TestACheckpointThatCannotBeCopied(t *testing.T) {
	s, _, work := newStore(t)
	a := begin(t, s, "a", 1)
	if err := a.Resume(func(string) error { return unix.EIO }); !errors.Is(err, unix.EIO) {
		t.Errorf("error %v, want the machine's", err)
	}
	if err := a.Discard(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(work); len(left) > 0 {
		t.Errorf("left is %v", left)
	}
}
