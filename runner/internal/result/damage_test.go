package result_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/result"
)

// What a task does to files must neither keep its result from being stored, nor
// lead the runner anywhere else.
func TestDamage(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	for name, damage := range map[string]func(out string) error{
		"all of it is removed": func(out string) error { return os.RemoveAll(filepath.Dir(out)) },
		"it is removed":        os.RemoveAll,
		"it is moved":          func(out string) error { return os.Rename(out, strings.TrimSuffix(out, ".result")+"/x") },
		"it is a link":         func(out string) error { return errors.Join(os.RemoveAll(out), os.Symlink(filepath.Dir(outside), out)) },
		"it is another":        func(out string) error { return errors.Join(os.RemoveAll(out), os.Mkdir(out, 0o755)) },
		"result is a directory": func(out string) error {
			return errors.Join(os.Remove(out+"/result.json"), os.Mkdir(out+"/result.json", 0o755))
		},
		"result is a link": func(out string) error {
			return errors.Join(os.Remove(out+"/result.json"), os.Symlink(outside, out+"/result.json"))
		},
		"result is missing": func(out string) error { return os.Remove(out + "/result.json") },
		"stdout is a link": func(out string) error {
			return errors.Join(os.Remove(out+"/stdout"), os.Symlink(outside, out+"/stdout"))
		},
		"stdout is a pipe": func(out string) error {
			return errors.Join(os.Remove(out+"/stdout"), unix.Mkfifo(out+"/stdout", 0o600))
		},
		"something is added": func(out string) error { return os.WriteFile(out+"/more", []byte("x"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(outside, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			s, dir, work := newStore(t)
			a := begin(t, s, "a", 1)
			if err := damage(filepath.Dir(a.Stdout())); err != nil {
				t.Fatal(err)
			}
			r := res("a", 1)
			r.Outcome = api.Succeeded
			if _, err := a.Close(&r, limits); err != nil {
				t.Fatal(err)
			}
			if r.Outcome != api.Failed || !strings.Contains(r.Reason, "removed or changed") {
				t.Errorf("outcome %s (%s), want a failure with that reason", r.Outcome, r.Reason)
			}
			if err := a.Commit(r); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Read("a", 1); err != nil || got.Outcome != api.Failed {
				t.Errorf("stored is %+v, %v", got, err)
			}
			if got := files(t, dir); len(got) != 1 {
				t.Errorf("stored are %v, want the result alone", got)
			}
			if left := files(t, work); len(left) != 0 {
				t.Errorf("left in the working directory: %v", left)
			}
			if text, err := os.ReadFile(outside); string(text) != "mine" {
				t.Errorf("a file outside is %q, %v", text, err)
			}
		})
	}
}

// The queue is out of reach when the attempt ends: that is no damage.
func TestOutOfReachIsNoDamage(t *testing.T) {
	spool := filepath.Join(t.TempDir(), "spool")
	for _, dir := range []string{"results", "work"} {
		if err := os.MkdirAll(filepath.Join(spool, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := result.New(filepath.Join(spool, "results"), func() (string, error) { return filepath.Join(spool, "work"), nil })
	a := begin(t, s, "a", 1)
	if err := os.Rename(spool, spool+".away"); err != nil {
		t.Fatal(err)
	}
	r := res("a", 1)
	r.Outcome = api.Succeeded
	if _, err := a.Close(&r, limits); err != nil || r.Outcome != api.Succeeded {
		t.Errorf("close: %v, outcome %s (%s), want Succeeded", err, r.Outcome, r.Reason)
	}
	if err := a.Commit(r); err == nil {
		t.Error("commit succeeded without a place for it")
	}
	if err := os.Rename(spool+".away", spool); err != nil {
		t.Fatal(err)
	}
	if err := a.Commit(r); err != nil {
		t.Error(err)
	}
	if got := files(t, filepath.Join(spool, "results")); got["a/1/stdout"] != "out" {
		t.Errorf("stored are %v, want the output, too", got)
	}
}

// small returns a store on a file system of 1 MiB.
func small(t *testing.T) (s *result.Store, fill func(path string)) {
	t.Helper()
	disk := t.TempDir()
	if err := unix.Mount("test", disk, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("only root can make a small file system: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	for _, dir := range []string{"results", "work"} {
		if err := os.Mkdir(filepath.Join(disk, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s = result.New(filepath.Join(disk, "results"), func() (string, error) { return filepath.Join(disk, "work"), nil })
	return s, func(path string) {
		if !filepath.IsAbs(path) {
			path = filepath.Join(disk, path)
		}
		if err := os.WriteFile(path, make([]byte, 2<<20), 0o644); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("fill the disk: %v, want %v", err, unix.ENOSPC)
		}
	}
}

// catalogue: row 69
func TestFullDisk(t *testing.T) {
	for _, test := range []struct {
		name    string
		outcome api.Outcome
		where   func(*result.Draft) string // what fills the disk is
		want    error
	}{
		{"its own success", api.Succeeded, (*result.Draft).Scratch, nil},
		{"its own failure", api.Failed, (*result.Draft).Scratch, nil},
		{"a failure of its outputs", api.Failed, (*result.Draft).Outputs, nil},
		{"a failure of its checkpoint", api.Failed, (*result.Draft).Checkpoint, nil},
		{"others', and it succeeded", api.Succeeded, func(*result.Draft) string { return "" }, nil},
		{"others', and it failed", api.Failed, func(*result.Draft) string { return "" }, result.ErrNoRoom},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, fill := small(t)
			a := begin(t, s, "a", 1)
			if err := os.Remove(filepath.Join(a.Scratch(), "core")); err != nil { // its end would make room
				t.Fatal(err)
			}
			if err := a.Resume(func(string) error { return nil }); err != nil {
				t.Fatal(err)
			}
			fill(filepath.Join(test.where(a), "big"))
			r := res("a", 1)
			r.Outcome = test.outcome
			if left, err := a.Close(&r, limits); left != nil || !errors.Is(err, test.want) {
				t.Fatalf("close: %v, %v; want %v", left, err, test.want)
			}
			if test.want != nil {
				return
			}
			if own, ok := map[string]string{a.Outputs(): "output directory", a.Checkpoint(): "checkpoint"}[test.where(a)]; ok {
				if want := "its " + own + " is not kept: the disk is full"; !strings.Contains(r.Reason, want) {
					t.Errorf("reason %q, want %q", r.Reason, want)
				}
			}
			if err := a.Commit(r); err != nil {
				t.Fatalf("commit: %v", err)
			}
			if got, err := s.Read("a", 1); err != nil || got.Outcome != test.outcome {
				t.Errorf("stored is %+v, %v; want %s", got, err, test.outcome)
			}
		})
	}
}

// A queue that is out of reach when the task ends is no damage by the task, and is
// not made anew: the result is stored when it is back.
func TestQueueOutOfReach(t *testing.T) {
	queue := filepath.Join(t.TempDir(), "queue")
	dir, work := filepath.Join(queue, "results"), filepath.Join(queue, "work")
	for _, d := range []string{dir, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a := begin(t, result.New(dir, func() (string, error) { return work, nil }), "t", 1)
	if err := os.Rename(queue, queue+".away"); err != nil {
		t.Fatal(err)
	}
	r := res("t", 1)
	if _, err := a.Close(&r, limits); err != nil || r.Reason != "exit status 3" {
		t.Errorf("closed with %v, the reason is %q", err, r.Reason)
	}
	if err := a.Commit(r); err == nil {
		t.Error("a result was stored in a queue that is out of reach")
	}
	if _, err := os.Lstat(queue); !os.IsNotExist(err) {
		t.Errorf("the queue was made anew: %v", err)
	}
	if err := os.Rename(queue+".away", queue); err != nil {
		t.Fatal(err)
	}
	if err := a.Commit(r); err != nil {
		t.Error(err)
	}
}
