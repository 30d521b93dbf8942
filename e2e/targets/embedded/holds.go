package embedded

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// holds keeps the tasks of a group waiting. A held task asks for a shared lock
// on the file of its group, while this process has the exclusive one: letting
// it go wakes all of them at once, and those that come later do not wait.
type holds struct {
	dir string

	mu       sync.Mutex
	held     map[string]*os.File
	released map[string]bool
}

// newHolds keeps the files in dir.
func newHolds(dir string) *holds {
	return &holds{dir: dir, held: map[string]*os.File{}, released: map[string]bool{}}
}

// hold makes the tasks of the group wait and returns the file to wait for. A
// group that was released stays so.
func (h *holds) hold(group string) (string, error) {
	path := filepath.Join(h.dir, "group-"+url.PathEscape(group))
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.released[group] || h.held[group] != nil {
		return path, nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("hold tasks of group %s: %w", group, err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return "", fmt.Errorf("hold tasks of group %s: lock %s: %w", group, path, err)
	}
	h.held[group] = file
	return path, nil
}

// release lets the tasks of the group go, now and later.
func (h *holds) release(group string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.released[group] = true
	return h.unlock(group)
}

// unlock gives the lock of the group up; h.mu is held.
func (h *holds) unlock(group string) error {
	file := h.held[group]
	if file == nil {
		return nil
	}
	delete(h.held, group)
	// Closing is not enough: a process that is being forked at this moment
	// has the file too, until it becomes its program.
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("release tasks of group %s: %w", group, err)
	}
	return nil
}

// releaseAll lets all tasks go.
func (h *holds) releaseAll() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var problems []error
	for group := range h.held {
		h.released[group] = true
		problems = append(problems, h.unlock(group))
	}
	return errors.Join(problems...)
}
