package result_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/result"
	"github.com/studioml/studio-go-runner/runner/internal/scarce"
)

// What an attempt has printed is stored without its runner, and nothing that is half
// made, nor what leads elsewhere.
func TestDied(t *testing.T) {
	outside := t.TempDir()
	for name, test := range map[string]struct {
		does func(a *result.Draft, out string) error
		want []string
	}{
		"it has printed": {func(*result.Draft, string) error { return nil }, []string{"result.json", "stderr", "stdout"}},
		"it has printed nothing": {func(a *result.Draft, _ string) error {
			return errors.Join(os.Remove(a.Stdout()), os.Remove(a.Stderr()))
		},
			[]string{"result.json"}},
		"it has printed much": {func(a *result.Draft, _ string) error {
			return os.WriteFile(api.OutputPart(a.Stderr(), 3, 5), []byte("x"), 0o600)
		}, []string{"result.json", "stderr", "stderr.3+5", "stdout"}},
		"its directories were on their way": {func(_ *result.Draft, out string) error {
			return errors.Join(os.Mkdir(filepath.Join(out, "outputs"), 0o755), os.Mkdir(filepath.Join(out, "checkpoint"), 0o755))
		}, []string{"result.json", "stderr", "stdout"}},
		"it added something": {func(_ *result.Draft, out string) error { return os.WriteFile(filepath.Join(out, "more"), nil, 0o600) },
			[]string{"result.json"}},
		"it is a link": {func(_ *result.Draft, out string) error {
			return errors.Join(os.RemoveAll(out), os.Symlink(outside, out))
		}, []string{"result.json"}},
		"a part is a link": {func(a *result.Draft, _ string) error { return os.Symlink(outside, api.OutputPart(a.Stdout(), 1, 5)) },
			[]string{"result.json"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir, work := newStore(t)
			before := time.Now().Add(-time.Second)
			a := begin(t, s, "a", 1)
			if err := test.does(a, filepath.Dir(a.Stdout())); err != nil {
				t.Fatal(err)
			}
			if err := s.Died(res("a", 1)); err != nil {
				t.Fatal(err)
			}
			var got []string
			entries, err := os.ReadDir(filepath.Join(dir, "a", "1"))
			for _, e := range entries {
				got = append(got, e.Name())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("stored are %v (%v), want %v", got, err, test.want)
			}
			r, err := s.Read("a", 1)
			if err != nil || r.Started.Before(before) || r.Finished.Before(r.Started) || r.Finished.After(time.Now()) {
				t.Errorf("stored is %+v, %v, want its times", r, err)
			}
			if left := files(t, work); len(left) != 0 {
				t.Errorf("left in the working directory: %v", left)
			}
			if err := s.Died(res("a", 1)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a second time: %v, want %v", err, fs.ErrNotExist)
			}
		})
	}
	if left, err := os.ReadDir(outside); len(left) > 0 || err != nil {
		t.Errorf("in a directory outside is %v, %v", left, err)
	}
}

// What is made in place of something damaged may be refused as well: that is an error, which
// ends no runner, and not for good.
func TestDiedWithoutRights(t *testing.T) {
	s, dir, work := newStore(t)
	a := begin(t, s, "a", 1)
	if err := os.WriteFile(filepath.Join(filepath.Dir(a.Stdout()), "more"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	giveBack := scarce.Rights(t, dir, work)
	before := unix.Umask(0o777)
	err := s.Died(res("a", 1))
	unix.Umask(before)
	giveBack()
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("died: %v, want %v", err, fs.ErrPermission)
	}
	if err := s.Died(res("a", 1)); err != nil {
		t.Errorf("died, with all rights: %v", err)
	}
}

// An attempt that nobody has begun, or whose number has a result, changes nothing.
func TestDiedWithout(t *testing.T) {
	s, dir, _ := newStore(t)
	for _, id := range []string{"a", "../a", ""} {
		if err := s.Died(res(id, 1)); err == nil {
			t.Errorf("task %q: stored", id)
		}
	}
	if stored := files(t, dir); len(stored) > 0 {
		t.Errorf("stored are %v", stored)
	}
	if err := begin(t, s, "a", 1).Commit(res("a", 1)); err != nil {
		t.Fatal(err)
	}
	begin(t, s, "a", 1)
	if err := s.Died(res("a", 1)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("of a number that has a result: %v, want %v", err, fs.ErrExist)
	}
}
