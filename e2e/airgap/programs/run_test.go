package programs

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"
)

// What a program started ends with it.
func TestRunEndsTheGroup(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := Run(ctx, exec.CommandContext(ctx, "sh", "-c", "sleep 60 & wait"), t.Output())
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 8*time.Second {
		t.Errorf("error after %s is %v", time.Since(began), err)
	}
	err = Run(t.Context(), exec.CommandContext(t.Context(), "sh", "-c", "echo the reason; exit 3"), t.Output())
	if err == nil || err.Error() != "sh -c: exit status 3\nthe reason" {
		t.Errorf("error is %q", err)
	}
}
