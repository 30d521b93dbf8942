package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
)

// Hold makes the pipe that the tasks of a group wait for, unless it is there: opening
// one takes until somebody has it open for writing.
func (e *env) Hold(group string) (string, error) {
	pipe := filepath.Join(e.dir, "hold", url.PathEscape(group))
	if err := syscall.Mkfifo(pipe, 0o644); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make pipe %s: %w", pipe, err)
	}
	return pipe, nil
}

// Release lets the tasks of a group go at once, and those that come later not wait: the
// pipe is open from now on. For reading too, because otherwise it would wait for tasks.
func (e *env) Release(_ context.Context, group string) error {
	pipe, err := e.Hold(group)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("release tasks: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.released = append(e.released, file)
	return nil
}
