package engine_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// Whoever only looks on waits until all tasks are finished, and hears where they are
// if that takes too long.
func TestSettled(t *testing.T) {
	env := newFakeEnv(t, idle)
	o, err := engine.Observe(t.Context(), env, history.New())
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if err := o.Submit(scenario.Submit{Group: "work", Count: 2}); err != nil {
		t.Fatal(err)
	}
	env.finish("work-1", "a")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := o.Settled(ctx); err == nil || !strings.Contains(err.Error(), "left is 1, want 0") || !strings.Contains(err.Error(), "started 1, finished 1, left 1, queued 1") {
		t.Errorf("got %v", err)
	}
	env.finish("work-2", "a")
	if err := o.Settled(t.Context()); err != nil {
		t.Error(err)
	}
}
