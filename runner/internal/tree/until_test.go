package tree_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

// fill makes a directory of many files, one below another, with a link that leads out.
func fill(t *testing.T) (dir, outside string) {
	t.Helper()
	dir, outside = filepath.Join(t.TempDir(), "a"), t.TempDir()
	problem := os.WriteFile(filepath.Join(outside, "file"), nil, 0o644)
	for _, sub := range []string{dir, filepath.Join(dir, "b\xff"), filepath.Join(dir, "b\xff", "c")} {
		problem = errors.Join(problem, os.Mkdir(sub, 0o755), os.Symlink(outside, filepath.Join(sub, "link")))
		for i := range 1500 {
			problem = errors.Join(problem, os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), nil, 0o644))
		}
	}
	if problem != nil {
		t.Fatal(problem)
	}
	return dir, outside
}

// looks is a context that ends when it was looked at so often.
type looks struct {
	context.Context
	left int
}

func (l *looks) Err() error {
	if l.left--; l.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestRemoveUntil(t *testing.T) {
	dir, outside := fill(t)
	for left := 0; ; left += 1000 {
		err := tree.RemoveUntil(&looks{t.Context(), left}, dir)
		_, there := os.Lstat(dir)
		if err == nil && os.IsNotExist(there) {
			break
		}
		if err != context.Canceled || there != nil || left > 4*1500 {
			t.Fatalf("after %d looks: %v, and the directory: %v", left, err, there)
		}
	}
	if _, err := os.Stat(filepath.Join(outside, "file")); err != nil {
		t.Errorf("what a link led to: %v", err)
	}
	file := filepath.Join(outside, "file")
	link := filepath.Join(t.TempDir(), "link")
	if err := errors.Join(os.Symlink(outside, link), tree.RemoveUntil(t.Context(), link)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("what is behind a link in place of the directory: %v", err)
	}
	if _, err := os.Lstat(link); err == nil {
		t.Error("a link is not removed")
	}
	if err := tree.RemoveUntil(t.Context(), file); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a file is not removed")
	}
}
