package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/studioml/studio-go-runner/e2e/targets/tasks"
	"github.com/studioml/studio-go-runner/runner/api"
)

// spool is the queue directory of a scenario. It is used through the command
// line of the runner, as people do.
type spool struct {
	runner string // the program
	path   string // where runners look for it

	mu     sync.RWMutex // write-locked while the directory moves
	hidden bool
}

// hiddenSuffix is added to the path of a spool that runners cannot reach.
const hiddenSuffix = ".hidden"

// place is where the directory is now; a lock is held.
func (s *spool) place() string {
	if s.hidden {
		return s.path + hiddenSuffix
	}
	return s.path
}

// submit puts tasks into the queue, hidden or not: the outage is the runners'.
func (s *spool) submit(ctx context.Context, all []api.Task) error {
	if len(all) == 0 {
		return nil
	}
	documents, err := tasks.Documents(all)
	if err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, err = s.command(ctx, bytes.NewReader(documents), "submit", "--spool="+s.place(), "-")
	return err
}

// contents lists what is in the queue, hidden or not.
func (s *spool) contents(ctx context.Context) (api.QueueContents, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out, err := s.command(ctx, nil, "status", "--spool="+s.place(), "--output=json")
	if err != nil {
		return api.QueueContents{}, err
	}
	return tasks.ParseContents(out)
}

// command runs the program; its messages are in the error.
func (s *spool) command(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, s.runner, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	cmd.Env = passedOn()
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("runner %s: %w\n%s", args[0], err, strings.TrimSpace(stderr.String()+stdout.String()))
	}
	return stdout.Bytes(), nil
}

// hide moves the directory to where runners do not look.
func (s *spool) hide() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hidden {
		return errors.New("hide queue: it is hidden already")
	}
	if err := os.Rename(s.path, s.path+hiddenSuffix); err != nil {
		return fmt.Errorf("hide queue: %w", err)
	}
	s.hidden = true
	return nil
}

// restore moves it back. A directory that somebody made in its place is an
// error: what was put there would be lost.
func (s *spool) restore() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hidden {
		return errors.New("restore queue: it is not hidden")
	}
	if _, err := os.Lstat(s.path); err == nil {
		return fmt.Errorf("restore queue: a runner has made a new queue at %s", s.path)
	}
	if err := os.Rename(s.path+hiddenSuffix, s.path); err != nil {
		return fmt.Errorf("restore queue: %w", err)
	}
	s.hidden = false
	return nil
}

// Submit puts tasks into the queue with one call of runner submit.
func (e *env) Submit(ctx context.Context, all []api.Task) error {
	return e.spool.submit(ctx, all)
}

// Queue lists what is in the queue now.
func (e *env) Queue(ctx context.Context) (api.QueueContents, error) {
	return e.spool.contents(ctx)
}
