// Package cache keeps what takes minutes to make, programs and file systems, in
// the user's cache directory. Whatever is there is complete, and made once, also
// when several processes ask for it at the same time.
package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
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

// Key names content by what it is made from, as hexadecimal digits of which the first
// ones will do.
func Key(parts ...string) string {
	hash := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(hash, "%d\n%s\n", len(part), part)
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// Has says whether a file or a directory is there.
func Has(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Ensure makes what should be at path, unless it is there; what is its name for
// messages, as "the control plane". It is made at another path, and appears only
// when it is complete.
func Ensure(ctx context.Context, path, what string, progress io.Writer, make func(ctx context.Context, path string) error) error {
	if Has(path) {
		return nil
	}
	release, err := Lock(ctx, path+".lock", what, progress)
	if err != nil {
		return err
	}
	defer release()
	if Has(path) { // made while we waited
		return nil
	}
	temp := path + ".tmp" // what an interrupted run left there is removed
	defer os.RemoveAll(temp)
	if err = os.RemoveAll(temp); err == nil {
		if err = make(ctx, temp); err == nil {
			err = os.Rename(temp, path)
		}
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", what, err)
	}
	return nil
}

// Lock takes an exclusive lock on the file path, which it creates and leaves
// behind. The kernel drops the lock of a process that dies. Of a process that has
// it, it says on progress what it makes.
func Lock(ctx context.Context, path, what string, progress io.Writer) (release func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("lock %s (or set XDG_CACHE_HOME): %w", what, err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", what, err)
	}
	// A blocking flock cannot be cancelled, so try again and again instead.
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for said := false; ; said = true {
		if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return func() { file.Close() }, nil
		}
		if !said {
			fmt.Fprintf(progress, "another process makes %s; waiting for it (lock %s)\n", what, path)
		}
		select {
		case <-ticker.C:
			if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
				continue
			}
		case <-ctx.Done():
			err = ctx.Err()
		}
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", what, err)
	}
}
