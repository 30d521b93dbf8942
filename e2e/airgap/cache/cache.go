// Package cache keeps what takes minutes to make, programs and file systems, in
// the user's cache directory. Whatever is there is complete, and made once, also
// when several processes ask for it at the same time.
package cache

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Dir returns the directory under the user's cache directory that is ours. It
// need not exist.
func Dir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache directory (set XDG_CACHE_HOME): %w", err)
	}
	return filepath.Join(dir, "studio-go-runner"), nil
}

// Item is a file or a directory of the cache.
type Item struct {
	Path string
	What string // for messages, as "the control plane"
	// Complete says what the item lacks, if it is there but was damaged. It may
	// be nil.
	Complete func(path string) error
	// Make makes the item at another path than its own. The context that it is
	// given ends with Ensure's.
	Make func(ctx context.Context, path string) error
}

// Ensure makes an item unless it is there.
func Ensure(ctx context.Context, item Item, progress io.Writer) error {
	if item.present() {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(item.Path), 0o755); err != nil {
		return fmt.Errorf("create cache directory (or set XDG_CACHE_HOME): %w", err)
	}
	release, err := Lock(ctx, item.Path+".lock", func() {
		fmt.Fprintf(progress, "another process makes %s; waiting for it (lock %s)\n", item.What, item.Path+".lock")
	})
	if err != nil {
		return fmt.Errorf("lock %s: %w", item.What, err)
	}
	defer release()
	if item.present() { // made while we waited
		return nil
	}
	if err := item.make(ctx); err != nil {
		return fmt.Errorf("make %s: %w", item.What, err)
	}
	return nil
}

// present says whether the item can be used.
func (i Item) present() bool {
	if _, err := os.Lstat(i.Path); err != nil {
		return false
	}
	return i.Complete == nil || i.Complete(i.Path) == nil
}

// make makes the item, which appears at its path only when it is complete. The
// caller holds the lock.
func (i Item) make(ctx context.Context) error {
	temp := i.Path + ".tmp" // what an interrupted run left there is removed
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if err := i.Make(ctx, temp); err != nil {
		return err
	}
	if i.Complete != nil {
		if err := i.Complete(temp); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(i.Path); err != nil { // damaged, or it would have been used
		return err
	}
	return os.Rename(temp, i.Path)
}
