package cache_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/studioml/studio-go-runner/e2e/airgap/cache"
)

func TestEnsureMakesOnce(t *testing.T) {
	made := 0
	path := filepath.Join(t.TempDir(), "cache", "item")
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			err := cache.Ensure(t.Context(), path, "the item", io.Discard, func(_ context.Context, path string) error {
				made++ // under the lock
				return os.WriteFile(path, []byte("x"), 0o644)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if made != 1 {
		t.Errorf("made %d times", made)
	}
}

func TestEnsureLeavesNothingIncomplete(t *testing.T) {
	dir := t.TempDir()
	for _, broken := range []error{errors.New("it cannot be made"), nil} {
		err := cache.Ensure(t.Context(), filepath.Join(dir, "item"), "the item", io.Discard, func(_ context.Context, path string) error {
			return errors.Join(os.WriteFile(path, []byte("half"), 0o644), broken)
		})
		if !errors.Is(err, broken) || cache.Has(filepath.Join(dir, "item")) != (broken == nil) {
			t.Errorf("%v: error is %v", broken, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 2 { // and the lock
		t.Errorf("left %q", left)
	}
}

// words calls back when something is said.
type words func()

func (w words) Write(text []byte) (int, error) { w(); return len(text), nil }

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, err := cache.Lock(t.Context(), path, "it", words(func() { t.Error("waited for a free lock") }))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := cache.Lock(ctx, path, "it", words(cancel)); !errors.Is(err, context.Canceled) {
		t.Errorf("error for a cancelled wait is %v", err)
	}
	again, err := cache.Lock(t.Context(), path, "it", words(release))
	if err != nil {
		t.Fatal(err)
	}
	again()
}
