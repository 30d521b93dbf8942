package scheduler_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
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

// A result that is there already will always be: the attempt failed, and the next
// one has another number.
func TestAResultThatCanNeverBeStoredIsNotTriedForEver(t *testing.T) {
	play(t, func(w *world) {
		close(w.hold)
		w.exists = true
		w.tasks <- cpu("a")
		w.want("run a", "retry a")
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
		close(w.hold)
	})
}
