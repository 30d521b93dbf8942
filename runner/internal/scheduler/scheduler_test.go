package scheduler_test

import (
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

func TestATaskIsStoredAndThenAcknowledged(t *testing.T) {
	play(t, func(w *world) {
		close(w.hold)
		w.tasks <- cpu("a")
		w.want("run a", "store a", "ack a")
		if c := w.gate.Snapshot().Counts; c.Started != 1 || c.Succeeded != 1 {
			w.Errorf("counts %+v", c)
		}
	})
}

func TestStoringAndSettlingAreTriedUntilTheyWork(t *testing.T) {
	play(t, func(w *world) {
		close(w.hold)
		w.failures["store"], w.failures["ack"] = 3, 3
		w.tasks <- cpu("a")
		synctest.Wait()
		if s := w.gate.Snapshot(); s.Idle || s.Counts.Running != 1 {
			w.Errorf("before the result is stored: %+v, want one running", s.Counts)
		}
		time.Sleep(time.Minute)
		w.want("run a", "store a", "ack a")
	})
}

func TestAFailedAttemptIsRetried(t *testing.T) {
	for _, outcome := range []api.Outcome{api.Failed, api.TimedOut} {
		play(t, func(w *world) {
			close(w.hold)
			w.outcome = outcome
			w.tasks <- cpu("a")
			w.want("run a", "store a", "retry a")
		})
	}
}

func TestNoMoreTasksThanSlots(t *testing.T) {
	play(t, func(w *world) {
		for _, id := range []string{"a", "b", "c"} {
			w.tasks <- cpu(id)
		}
		synctest.Wait()
		if w.running != 2 || len(w.tasks) != 1 {
			w.Errorf("%d run and %d wait, want 2 and 1", w.running, len(w.tasks))
		}
		close(w.hold)
		synctest.Wait()
		if w.most != 2 {
			w.Errorf("%d ran at the same time, want 2", w.most)
		}
	})
}

// catalogue: row 46
func TestATaskThatWaitsForAGPUIsGivenBackWhenTheGateCloses(t *testing.T) {
	play(t, func(w *world) {
		w.tasks <- onGPU("first")
		w.want("run first")
		w.tasks <- onGPU("second")
		synctest.Wait()
		if c := w.gate.Snapshot().Counts; c.Waiting != 1 {
			w.Errorf("counts %+v, want one waiting", c)
		}
		w.gate.Set(false)
		w.want("run first", "release second")
		if c := w.gate.Snapshot().Counts; c.Waiting != 0 || c.Running != 1 || c.Requeued != 1 {
			w.Errorf("counts %+v, want one running, one requeued", c)
		}
		close(w.hold)
	})
}

// Also one that closes while a large checkpoint is copied. There is nothing to blame, so
// no pause follows.
func TestTheLastLookAtTheGateIsRightBeforeTheStart(t *testing.T) {
	for _, late := range []func(w *world, what func()){
		func(w *world, what func()) { w.onBegin = what },
		func(w *world, what func()) { w.onResume = what },
	} {
		playOn(t, 1, 1, func(w *world) {
			late(w, func() { w.gate.Set(false) })
			w.tasks <- onGPU("a")
			w.want("release a")
			if c := w.gate.Snapshot().Counts; c.Started != 0 {
				w.Errorf("counts %+v, want none started", c)
			}
			// The GPU must be free again.
			late(w, nil)
			w.gate.Set(true)
			w.tasks <- onGPU("b")
			w.want("release a", "run b")
			close(w.hold)
		})
	}
}

func TestAClosedGateFetchesNothing(t *testing.T) {
	play(t, func(w *world) {
		synctest.Wait() // the fetch is under way
		w.gate.Set(false)
		synctest.Wait()
		w.tasks <- cpu("a")
		w.want()
		if s := w.gate.Snapshot(); !s.Idle {
			w.Errorf("%+v, want idle", s)
		}
		<-w.tasks
	})
}

func TestATaskThatNeverFitsIsLeftToOthers(t *testing.T) {
	play(t, func(w *world) {
		w.tasks <- &api.Task{ID: "big", Command: "x", Resources: api.Resources{GPUs: 2}}
		w.want("refused big")
	})
}

func TestStopReachesTheTasksThatRun(t *testing.T) {
	for how, want := range map[lifecycle.Stop]string{lifecycle.Terminate: "terminate a", lifecycle.Kill: "kill a"} {
		play(t, func(w *world) {
			w.tasks <- cpu("a")
			w.want("run a")
			w.scheduler.Stop(lifecycle.LeaveAlone)
			w.want("run a")
			w.scheduler.Stop(how)
			w.want("run a", want, "store a", "release a")
		})
	}
}

// The gate may be open then: a part of the runner that fails ends it, too.
func TestStopReachesTheTaskThatIsAboutToStart(t *testing.T) {
	for _, how := range []lifecycle.Stop{lifecycle.Terminate, lifecycle.Kill} {
		play(t, func(w *world) {
			w.onBegin = func() { w.scheduler.Stop(how) }
			w.tasks <- onGPU("a")
			w.want("release a")
			if c := w.gate.Snapshot().Counts; c.Started != 0 || c.Requeued != 1 {
				w.Errorf("counts %+v, want none started", c)
			}
			w.onBegin = nil
			w.tasks <- onGPU("b") // the GPU is free again
			w.want("release a", "run b")
			close(w.hold)
		})
	}
}

func TestTheEndOfTheProcessReachesTheTaskThatIsAboutToStart(t *testing.T) {
	var w *world
	play(t, func(story *world) {
		w = story
		begun, ended := make(chan struct{}), make(chan struct{})
		w.onBegin = func() {
			close(begun)
			<-ended
		}
		w.tasks <- cpu("a")
		<-begun
		go func() {
			synctest.Wait() // Run has ended, and waits for its tasks
			close(ended)
		}()
	})
	if got := w.noted(); !slices.Equal(got, []string{"release a"}) {
		t.Errorf("log %q, want a release", got)
	}
}

func TestAnAttemptThatCannotBePreparedIsGivenBackAndNotTakenAgainAtOnce(t *testing.T) {
	play(t, func(w *world) {
		close(w.hold)
		w.failures["prepare"] = 1
		w.tasks <- onGPU("a")
		w.want("release a")
		w.gate.Set(false)
		w.gate.Set(true)
		w.tasks <- onGPU("b")
		w.want("release a", "run b", "store b", "ack b") // by the other slot
		w.failures["prepare"] = 1
		w.tasks <- onGPU("c")
		w.want("release a", "run b", "store b", "ack b", "release c")
		w.tasks <- onGPU("d") // both slots pause
		w.want("release a", "run b", "store b", "ack b", "release c")
		time.Sleep(2 * time.Second)
		w.want("release a", "run b", "store b", "ack b", "release c", "run d", "store d", "ack d")
	})
}

func TestTheEndOfTheProcessKillsWhatRuns(t *testing.T) {
	var w *world
	play(t, func(story *world) {
		w = story
		w.tasks <- cpu("a")
		w.want("run a")
	})
	if got := w.noted(); !slices.Contains(got, "kill a") {
		t.Errorf("log %q, want a kill", got)
	}
}

func TestTheDrainFile(t *testing.T) {
	play(t, func(w *world) {
		exists := func() bool {
			_, err := os.Stat(w.drainFile)
			return err == nil
		}
		for _, draining := range []bool{true, true, false, false, true} {
			w.scheduler.SetDraining(draining)
			if exists() != draining {
				w.Errorf("draining %v: the file exists: %v", draining, exists())
			}
		}
	})
}
