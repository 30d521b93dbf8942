package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/result"
	"github.com/studioml/studio-go-runner/runner/internal/scheduler"
)

// A checkpoint may take long to copy, and the gate may close meanwhile: then nothing
// starts, and nothing is left of what was prepared.
func TestNothingStartsBehindAGateThatClosesWhileACheckpointIsCopied(t *testing.T) {
	work, ran := t.TempDir(), filepath.Join(t.TempDir(), "ran")
	closed, copied := errors.New("the gate is closed"), false
	e := &executor{Serve: &Serve{}, log: slog.New(slog.DiscardHandler)}
	_, made, err := e.Execute(scheduler.Attempt{
		Task: &api.Task{ID: "a", Command: "touch", Args: []string{ran}}, Number: 2,
		Results:    result.New(t.TempDir(), func() (string, error) { return work, nil }),
		Checkpoint: func(dir string) error { copied = true; return os.WriteFile(filepath.Join(dir, "model"), nil, 0o600) },
		Start: func() error {
			if !copied {
				return nil
			}
			return closed
		},
		Drained: func() bool { return true }, Terminate: t.Context(), Kill: t.Context(),
	})
	if !errors.Is(err, closed) || made != nil {
		t.Errorf("made %v, error %v; want that the gate is closed", made, err)
	}
	if _, err := os.Lstat(ran); err == nil {
		t.Error("the task ran")
	}
	if left, err := os.ReadDir(work); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v; want nothing", left, err)
	}
}
