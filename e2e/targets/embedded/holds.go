package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// holds keeps the tasks of a group waiting. A held task opens a named pipe, which
// takes until somebody writes to it: having it open lets all of them go at once,
// and those that come later do not wait.
type holds struct {
	dir string

	mu       sync.Mutex
	released []*os.File
}

// Hold makes the pipe of a group, unless it is there. A group that was released
// stays so.
func (h *holds) Hold(group string) (place.Hold, error) {
	path := filepath.Join(h.dir, "group-"+url.PathEscape(group))
	if err := syscall.Mkfifo(path, 0o644); err != nil && !errors.Is(err, fs.ErrExist) {
		return place.Hold{}, fmt.Errorf("make pipe %s: %w", path, err)
	}
	return place.Pipe(path), nil
}

// Release lets the tasks of a group go, now and later.
func (h *holds) Release(_ context.Context, group string) error {
	hold, err := h.Hold(group)
	if err != nil {
		return err
	}
	return h.open(hold.Path)
}

// open opens pipes; for reading too, because otherwise it would wait for tasks.
func (h *holds) open(paths ...string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, path := range paths {
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("release tasks: %w", err)
		}
		h.released = append(h.released, file)
	}
	return nil
}

// releaseAll lets all tasks go.
func (h *holds) releaseAll() error {
	pipes, _ := filepath.Glob(filepath.Join(h.dir, "group-*"))
	return h.open(pipes...)
}

// close is for when no task is left.
func (h *holds) close() {
	for _, file := range h.released {
		file.Close()
	}
}
