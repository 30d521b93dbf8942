package scheduler_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/result"
)

// A runner to which the machine refuses everything takes ever fewer tasks, and as
// many as before once one was accepted.
func TestThePauseAfterARefusalGrows(t *testing.T) {
	for _, what := range []string{"prepare", "begin"} {
		playOn(t, 1, 1, func(w *world) {
			close(w.hold)
			w.failures[what] = 6
			for i := range 8 {
				w.tasks <- cpu(fmt.Sprint(i))
			}
			time.Sleep(62 * time.Second) // of 1, 2, 4, 8, 16 and 32 s
			if got := w.noted(); len(got) != 6 {
				w.Errorf("%s: log %q, want 6 releases and nothing more", what, got)
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if got := w.noted(); len(got) != 6+3*2 {
				w.Errorf("%s: log %q, want 6 releases and 2 runs", what, got)
			}
			w.failures[what] = 1
			w.tasks <- cpu("x")
			w.tasks <- cpu("y")
			synctest.Wait()
			time.Sleep(1100 * time.Millisecond)
			synctest.Wait()
			if got := w.noted(); got[len(got)-1] != "ack y" {
				w.Errorf("%s: log %q, want the pause to be short again", what, got[12:])
			}
		})
	}
}

// As by a disk that has become full since the attempt was prepared.
func TestARefusalAfterTheStartDoesNotCount(t *testing.T) {
	play(t, func(w *world) {
		close(w.hold)
		w.failures["start"] = 1
		w.tasks <- cpu("a")
		w.want("release a")
		if s := w.gate.Snapshot(); s.Refused != 1 || s.Counts.Started != 1 || s.Counts.Requeued != 1 {
			w.Errorf("%+v, want one that started and was refused", s)
		}
	})
}

// catalogue: row 77
func TestALostClaimStopsTheTaskAndStoresNothing(t *testing.T) {
	dir := t.TempDir()
	play(t, func(w *world) {
		w.results = result.New(dir, func() (string, error) { return dir, nil })
		w.lost = true
		w.tasks <- onGPU("a")
		w.want("run a")
		w.unclaim(fmt.Errorf("heartbeat: %w", queue.ErrLost))
		w.want("run a", "terminate a", "lost a")
		if c := w.gate.Snapshot().Counts; c.Running != 0 || c.Requeued != 1 {
			w.Errorf("counts %+v, want one requeued", c)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			w.Errorf("left %v, %v; want nothing of the attempt", left, err)
		}
		w.tasks <- onGPU("b") // the GPU is free again
		w.want("run a", "terminate a", "lost a", "run b")
		close(w.hold)
	})
}

// catalogue: row 79
func TestATaskThatItsOwnerCancels(t *testing.T) {
	play(t, func(w *world) {
		w.tasks <- cpu("a")
		w.want("run a")
		w.unclaim(queue.ErrCancelled)
		w.want("run a", "terminate a", "store a", "ack a")
		if c := w.gate.Snapshot().Counts; c.Cancelled != 1 || c.Requeued+c.Failed+c.Succeeded != 0 {
			w.Errorf("counts %+v, want one cancelled", c)
		}
		if text := w.text.String(); strings.Count(text, `level=INFO msg="task cancelled"`) != 1 {
			w.Errorf("log, want once that it was cancelled:\n%s", text)
		}
		if r := w.stored[0]; r.Outcome != api.Cancelled || r.Reason != "its owner cancelled it" {
			w.Errorf("result %+v, want that its owner cancelled it", r)
		}
	})
}

// A cleaner of /tmp may remove what shows the drain, before it or during it.
func TestTheDrainIsShownAfterACleaner(t *testing.T) {
	play(t, func(w *world) {
		shown := func() bool {
			_, err := os.Stat(w.drainFile)
			return err == nil
		}
		for range 2 {
			if err := os.RemoveAll(filepath.Dir(w.drainFile)); err != nil {
				w.Fatal(err)
			}
			if w.scheduler.SetDraining(true); !shown() {
				w.Error("the drain is not shown")
			}
		}
		if err := os.RemoveAll(filepath.Dir(w.drainFile)); err != nil {
			w.Fatal(err)
		}
		w.scheduler.SetDraining(false)
		// It cannot be shown, and then it can.
		if err := os.WriteFile(filepath.Dir(w.drainFile), nil, 0o600); err != nil {
			w.Fatal(err)
		}
		w.scheduler.SetDraining(true)
		if err := os.Remove(filepath.Dir(w.drainFile)); err != nil {
			w.Fatal(err)
		}
		if w.scheduler.SetDraining(true); !shown() {
			w.Error("the drain is not shown, though now it can be")
		}
		if w.scheduler.SetDraining(false); shown() {
			w.Error("a drain is shown that is over")
		}
	})
}

func TestAnAttemptWaitsUntilItsStartIsKnown(t *testing.T) {
	play(t, func(w *world) {
		close(w.hold)
		known := make(chan struct{})
		w.starting = func(ctx context.Context) {
			select {
			case <-known:
			case <-ctx.Done():
			}
		}
		w.tasks <- cpu("a")
		w.want()
		close(known)
		w.want("run a", "store a", "ack a")
	})
}

// An attempt knows of a drain that was on when it began, or at any moment since.
func TestAnAttemptKnowsOfTheDrain(t *testing.T) {
	play(t, func(w *world) {
		drained := func(i int) bool {
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.attempts[i].Drained()
		}
		w.tasks <- cpu("a")
		if drained(0) {
			w.Error("drained before any drain")
		}
		w.scheduler.SetDraining(true)
		w.scheduler.SetDraining(false)
		w.tasks <- cpu("b")
		if !drained(0) || drained(1) {
			w.Errorf("a drain while the first ran: %v and %v, want true and false", drained(0), drained(1))
		}
		w.scheduler.SetDraining(true)
		if !drained(1) {
			w.Error("the second was not told")
		}
		close(w.ending("a")) // which makes room for one more
		w.tasks <- cpu("c")
		if !drained(2) {
			w.Error("the third was not told of what was on")
		}
		close(w.hold)
	})
}
