package result_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/result"
)

// inherited is an access list: version 2, and that the owner alone may do anything, as
// tag, permissions and nobody's ID, for the owner, the group and the others.
var inherited = []byte("\x02\x00\x00\x00" +
	"\x01\x00\x07\x00\xff\xff\xff\xff" + "\x04\x00\x00\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff")

// anotherMoment waits until the file system's clock has gone on since the last change of
// a file.
func anotherMoment(t *testing.T, file string) {
	t.Helper()
	changed := func(file string) syscall.Timespec {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Ctim
	}
	begin, clock := changed(file), filepath.Join(t.TempDir(), "clock")
	for now := begin; now == begin; now = changed(clock) {
		if err := os.WriteFile(clock, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A task gets the directory of the last one only if that has done nothing to it.
func TestOnlyAnUntouchedDirectoryIsUsedAgain(t *testing.T) {
	for name, touch := range map[string]func(scratch string) error{
		"":                     func(string) error { return nil },
		"a file":               func(dir string) error { return os.WriteFile(filepath.Join(dir, "x"), nil, 0o600) },
		"a file beside it":     func(dir string) error { return os.WriteFile(filepath.Join(dir, "..", "x"), nil, 0o600) },
		"an output":            func(dir string) error { return os.WriteFile(filepath.Join(dir, "..", "outputs", "x"), nil, 0o600) },
		"a checkpoint":         func(dir string) error { return os.Mkdir(filepath.Join(dir, "..", "checkpoint", "x"), 0o700) },
		"no outputs":           func(dir string) error { return os.Remove(filepath.Join(dir, "..", "outputs")) },
		"another mode":         func(dir string) error { return os.Chmod(dir, 0o500) },
		"a mode of the parent": func(dir string) error { return os.Chmod(filepath.Dir(dir), 0o500) },
		"it is a link": func(dir string) error {
			return errors.Join(os.Rename(dir, dir+".x"), os.Symlink(dir+".x", dir))
		},
		"outputs is a link": func(dir string) error {
			outputs := filepath.Join(dir, "..", "outputs")
			return errors.Join(os.Remove(outputs), os.Symlink(dir, outputs))
		},
		"it is gone":   func(dir string) error { return os.RemoveAll(filepath.Dir(dir)) },
		"an attribute": func(dir string) error { return unix.Setxattr(dir, "user.x", []byte("y"), 0) },
		"a list that files inherit": func(dir string) error {
			return unix.Setxattr(filepath.Join(dir, "..", "outputs"), "system.posix_acl_default", inherited, 0)
		},
		"an owner": func(dir string) error { return os.Lchown(filepath.Join(dir, "..", "checkpoint"), 1, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			s, _, work := newStore(t)
			inode := func(task string, touch func(string) error) uint64 {
				a, err := s.Begin(task, 1)
				if err != nil {
					t.Fatal(err)
				}
				info, err := os.Stat(a.Scratch())
				if err != nil || info.Mode() != os.ModeDir|0o755 {
					t.Fatalf("the directory is %v, %v", info, err)
				}
				if left, err := os.ReadDir(a.Scratch()); err != nil || len(left) != 0 {
					t.Errorf("in the directory of %s: %v, %v", task, left, err)
				}
				// What is held open keeps its number, which a new one could get else.
				held, err := os.Open(a.Scratch())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { held.Close() })
				anotherMoment(t, a.Scratch())
				switch err := touch(a.Scratch()); {
				case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPERM):
					t.Skip(err)
				case err != nil:
					t.Fatal(err)
				}
				r := res(task, 1)
				if left, err := a.Close(&r, result.Limits{}); left != nil || err != nil || r.Outcome != api.Failed {
					t.Fatal(left, err, r.Outcome)
				}
				if left := files(t, work); len(left) != 1 { // the result
					t.Errorf("left of %s: %v", task, left)
				}
				if err := a.Commit(r); err != nil {
					t.Fatal(err)
				}
				return info.Sys().(*syscall.Stat_t).Ino
			}
			first, second := inode("a", touch), inode("b", func(string) error { return nil })
			if again := first == second; again != (name == "") {
				t.Errorf("used again: %t", again)
			}
		})
	}
}

// What waits for the next task may be cleaned up, or filled, before that comes.
func TestARoomThatIsNotEmptyAnyMoreIsMadeAnew(t *testing.T) {
	for name, touch := range map[string]func(dir string) error{
		"a file":      func(dir string) error { return os.WriteFile(filepath.Join(dir, "outputs", "x"), nil, 0o600) },
		"no scratch":  func(dir string) error { return os.Remove(filepath.Join(dir, "scratch")) },
		"one instead": func(dir string) error { return os.Rename(filepath.Join(dir, "scratch"), filepath.Join(dir, "x")) },
		"one more":    func(dir string) error { return os.Mkdir(filepath.Join(dir, "x"), 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			s, _, work := newStore(t)
			a, err := s.Begin("a", 1)
			if err != nil {
				t.Fatal(err)
			}
			r := res("a", 1)
			if left, err := a.Close(&r, limits); left != nil || err != nil {
				t.Fatal(left, err)
			}
			if err := touch(filepath.Join(filepath.Dir(work), "untouched")); err != nil {
				t.Fatal(err)
			}
			b, err := s.Begin("b", 1)
			if err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{b.Scratch(), b.Outputs(), b.Checkpoint()} {
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					t.Errorf("%s has %v, %v", dir, left, err)
				}
			}
			if all, err := os.ReadDir(filepath.Dir(b.Scratch())); err != nil || len(all) != 3 {
				t.Errorf("beside them: %v, %v", all, err)
			}
		})
	}
}
