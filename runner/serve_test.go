package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/studioml/studio-go-runner/runner/internal/gate"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// A runner ends for the reason of the part that ended first, though another one hangs.
func TestAPartThatHangsHidesNoReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		life := &lifecycle.Loop{
			Log: slog.New(slog.DiscardHandler), Gate: gate.New(),
			Publish:    func(lifecycle.Report, lifecycle.Snapshot, lifecycle.Memory, gate.Snapshot) {},
			Transition: func(_, _ lifecycle.Report) {}, Problem: func(lifecycle.View, lifecycle.Problem) {},
		}
		reason, hangs := errors.New("no queue"), make(chan struct{})
		defer close(hangs)
		_, err := together(t.Context(), life,
			func(context.Context) error { return reason },
			func(context.Context) error { <-hangs; return nil })
		if !errors.Is(err, reason) {
			t.Errorf("it ends with %v, want %v", err, reason)
		}
	})
}

// What hangs at the end of a process does not keep it, and is told.
func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs, fault := make(chan struct{}), errors.New("no")
		defer close(hangs)
		if err := within(time.Second, "closing", func() error { return fault }); err != fault {
			t.Errorf("it says %v, want %v", err, fault)
		}
		err := within(time.Second, "closing", func() error { <-hangs; return nil })
		if err == nil || err.Error() != "closing took longer than 1s, and is left to the other runners" {
			t.Errorf("it says %v", err)
		}
	})
}
