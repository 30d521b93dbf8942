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
	item := cache.Item{
		Path: filepath.Join(t.TempDir(), "cache", "item"), What: "the item",
		Make: func(_ context.Context, path string) error {
			made++ // under the lock
			return os.WriteFile(path, []byte("x"), 0o644)
		},
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := cache.Ensure(t.Context(), item, io.Discard); err != nil {
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
	item := cache.Item{
		Path: filepath.Join(dir, "item"), What: "the item",
		Complete: func(path string) error {
			if data, err := os.ReadFile(path); err != nil || string(data) != "complete" {
				return errors.New("it is incomplete")
			}
			return nil
		},
	}
	for _, text := range []string{"half", "complete", "half"} {
		item.Make = func(_ context.Context, path string) error { return os.WriteFile(path, []byte(text), 0o644) }
		err := cache.Ensure(t.Context(), item, io.Discard)
		if failed := err != nil; failed != (text == "half" && item.Complete(item.Path) != nil) {
			t.Errorf("%s: error is %v", text, err)
		}
	}
	if err := os.WriteFile(item.Path, []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	item.Make = func(_ context.Context, path string) error { return os.WriteFile(path, []byte("complete"), 0o644) }
	if err := cache.Ensure(t.Context(), item, io.Discard); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 2 { // and the lock
		t.Errorf("left %q", left)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, err := cache.Lock(t.Context(), path, func() { t.Error("waited for a free lock") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := cache.Lock(ctx, path, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("error for a cancelled wait is %v", err)
	}
	again, err := cache.Lock(t.Context(), path, release)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
