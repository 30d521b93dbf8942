package spool_test

import (
	"io/fs"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

// What an attempt has written so far can be read while it runs; and what a claim was
// used for before is not told of the next task.
func TestAnAttemptThatRuns(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	running := func(id string, gpus []string) spool.Delivery {
		submit(t, s, api.Task{ID: id})
		d := fetch(t, s, id)
		n, err := d.Begin(gpus)
		if err != nil {
			t.Fatal(err)
		}
		results, _ := d.Local()
		made, err := results.Begin(id, n)
		if err == nil {
			err = os.WriteFile(made.Stdout(), []byte("so far"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		opened, err := spool.Look(dir).Files(t.Context(), id, n)
		if err != nil {
			t.Fatal(err)
		}
		defer opened.Close()
		if text, err := fs.ReadFile(opened, "stdout"); string(text) != "so far" || err != nil {
			t.Errorf("stdout is %q, %v", text, err)
		}
		all, err := s.List(t.Context(), id)
		if err != nil || len(all) != 1 || !slices.Equal(all[0].GPUs, gpus) || all[0].Starts != n {
			t.Errorf("task %+v, %v, want it on %v", all, err, gpus)
		}
		if err := made.Discard(); err != nil {
			t.Error(err)
		}
		return d
	}
	if err := running("a", []string{"GPU-1"}).Ack(); err != nil {
		t.Error(err)
	}
	submit(t, s, api.Task{ID: "claimed"})
	waits, err := s.List(t.Context(), "claimed")
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return time.Since(waits[0].Since) > 20*time.Millisecond }) // by the clock of the file system, too
	claimed := fetch(t, s, "claimed")                                                   // and not begun
	if all, err := s.List(t.Context(), "claimed"); err != nil || len(all[0].GPUs) > 0 || !all[0].Since.After(waits[0].Since) {
		t.Errorf("task %+v, %v, want it on no GPU, and since then", all, err)
	}
	if err := claimed.Ack(); err != nil {
		t.Error(err)
	}
	running("b", nil)
}
