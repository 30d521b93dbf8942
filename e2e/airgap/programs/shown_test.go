package programs

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestProgressIsTheLastLine(t *testing.T) {
	var shown strings.Builder
	l := &lines{out: &shown, name: "debootstrap"} // last shown long ago
	for _, text := range []string{"I: Retrie", "ving a\nI: Retrieving b\n", strings.Repeat("I: more\n", 2*maxLast)} {
		if _, err := l.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := shown.String(), "debootstrap: I: Retrieving a\n"; got != want {
		t.Errorf("shown is %q, want %q", got, want)
	}
	if len(l.last) != maxLast {
		t.Errorf("%d lines are kept for an error", len(l.last))
	}
}

// What a program started ends with it.
func TestShownEndsTheGroup(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := Shown(ctx, exec.CommandContext(ctx, "sh", "-c", "sleep 60 & wait"), "sh", t.Output())
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 8*time.Second {
		t.Errorf("error after %s is %v", time.Since(began), err)
	}
	err = Shown(t.Context(), exec.CommandContext(t.Context(), "sh", "-c", "echo the reason; exit 3"), "sh", t.Output())
	if err == nil || err.Error() != "sh: exit status 3\nthe reason\n" {
		t.Errorf("error is %q", err)
	}
}
