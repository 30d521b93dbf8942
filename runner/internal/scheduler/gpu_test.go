package scheduler_test

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

func onGPUs(id string, gpus int) *api.Task {
	return &api.Task{ID: id, Command: "x", Resources: api.Resources{GPUs: gpus}}
}

// give puts a task into the queue and waits for what comes of it.
func (w *world) give(t *api.Task) {
	w.tasks <- t
	synctest.Wait()
}

func (w *world) wantRun(task string) {
	w.Helper()
	synctest.Wait()
	if got := w.noted(); !slices.Contains(got, "run "+task) {
		w.Errorf("log %q, want run %s", got, task)
	}
}

func TestSmallTasksGoPastTheOneThatWaits(t *testing.T) {
	playOn(t, 9, 8, func(w *world) {
		w.give(onGPUs("first", 6))
		w.want("run first")
		w.give(onGPUs("head", 4))
		w.give(onGPUs("too big now", 4)) // left to others
		w.give(onGPUs("small", 2))
		w.want("run first", "refused too big now", "run small")
		w.give(onGPUs("no GPU", 0))
		w.give(onGPUs("no room", 1))
		w.want("run first", "refused too big now", "run small", "run no GPU", "refused no room")
		if c := w.gate.Snapshot().Counts; c.Waiting != 1 {
			w.Errorf("counts %+v, want one waiting", c)
		}
		close(w.hold)
		synctest.Wait()
		if c := w.gate.Snapshot().Counts; c.Waiting != 0 || c.Succeeded != 4 {
			w.Errorf("counts %+v, want four succeeded", c)
		}
	})
}

// The locks of its GPUs live as long as a process of the attempt.
func TestAnAttemptHoldsTheLocksOfItsGPUs(t *testing.T) {
	playOn(t, 1, 3, func(w *world) {
		w.pool.LockIn(t.TempDir(), slog.New(slog.DiscardHandler))
		w.give(onGPUs("a", 2))
		w.wantRun("a")
		a := w.attempts[0]
		if len(a.Held) != 2 || !slices.Equal(a.Held, w.pool.Locks(a.GPUs)) {
			t.Errorf("holds %v with %v, want their locks", a.Held, a.GPUs)
		}
	})
}

func TestTheOneThatWaitsNeedsNoSlotForThat(t *testing.T) {
	playOn(t, 2, 2, func(w *world) {
		w.give(onGPUs("first", 1))
		w.give(onGPUs("head", 2))
		w.want("run first")
		w.give(onGPUs("small", 1))
		w.want("run first", "run small")
		close(w.hold)
	})
}

// The bound of the doc comment: no more than 16 tasks take GPUs that the head
// could use.
func TestTheOneThatWaitsIsOvertakenSixteenTimes(t *testing.T) {
	playOn(t, 100, 8, func(w *world) {
		log := []string{"run first"}
		w.give(onGPUs("first", 1))
		w.give(onGPUs("head", 8))
		w.want(log...)
		for i := range 20 {
			id := fmt.Sprintf("small-%d", i)
			w.give(onGPUs(id, 1))
			if i < 16 {
				log = append(log, "run "+id, "store "+id, "ack "+id)
			} else {
				log = append(log, "refused "+id)
			}
			close(w.ending(id))
			synctest.Wait()
		}
		w.give(onGPUs("no GPU", 0))
		log = append(log, "run no GPU")
		w.want(log...)
		w.want(log...)
		close(w.ending("first"))
		w.wantRun("head")
	})
}

func TestGPUsThatTheOneThatWaitsCannotUseAreGivenWithoutCounting(t *testing.T) {
	playOn(t, 100, 3, func(w *world) {
		large := api.Resources{GPUs: 1, GPUMemory: 80 << 30}
		w.give(&api.Task{ID: "first", Command: "x", Resources: large})
		w.give(&api.Task{ID: "head", Command: "x", Resources: large})
		log := []string{"run first"}
		for i := range 20 {
			id := fmt.Sprintf("small-%d", i)
			w.give(onGPUs(id, 2))
			close(w.ending(id))
			log = append(log, "run "+id, "store "+id, "ack "+id)
			synctest.Wait()
		}
		w.want(log...)
		close(w.ending("first"))
		w.wantRun("head")
	})
}

func TestATaskWhoseGPUBecomesSickIsStoppedAndLosesNoAttempt(t *testing.T) {
	play(t, func(w *world) {
		w.give(onGPU("a"))
		w.want("run a")
		setHealth(w.pool, "GPU-0", api.Retiring, "remap pending")
		w.want("run a") // it may finish
		setHealth(w.pool, "GPU-0", api.Sick, "Xid 79")
		w.want("run a", "terminate a", "store a", "release a")
		r := w.stored[0]
		if want := "GPU GPU-0 is sick: Xid 79"; r.Outcome != api.MachineFailed || r.Reason != want {
			w.Errorf("%s for %q, want %s for %q", r.Outcome, r.Reason, api.MachineFailed, want)
		}
		if c := w.gate.Snapshot().Counts; c.MachineFailed != 1 || c.Requeued != 0 || c.Failed != 0 {
			w.Errorf("counts %+v, want one failed by the machine", c)
		}
		// With no GPU left, only tasks that need none are taken, until it heals.
		w.give(onGPU("b"))
		w.give(cpu("c"))
		w.want("run a", "terminate a", "store a", "release a", "refused b", "run c")
		setHealth(w.pool, "GPU-0", api.Healthy, "")
		w.give(onGPU("b"))
		w.want("run a", "terminate a", "store a", "release a", "refused b", "run c", "run b")
		close(w.hold)
	})
}

func TestATaskThatFailsOnAGPUThatTurnsOutSickLosesNoAttempt(t *testing.T) {
	for _, outcome := range []api.Outcome{api.Failed, api.TimedOut} {
		play(t, func(w *world) {
			w.outcome, w.sick = outcome, "GPU-0 has fallen off the bus"
			close(w.hold)
			w.give(onGPU("a"))
			w.want("run a", "store a", "release a")
			r := w.stored[0]
			if want := "GPU-0 has fallen off the bus (exit status 0)"; r.Outcome != api.MachineFailed || r.Reason != want {
				w.Errorf("%s for %q, want %s for %q", r.Outcome, r.Reason, api.MachineFailed, want)
			}
			w.give(cpu("b")) // not on that GPU
			w.want("run a", "store a", "release a", "run b", "store b", "retry b")
		})
	}
}

func TestSuccessAndOtherStopsAreNotBlamedOnTheMachine(t *testing.T) {
	play(t, func(w *world) {
		w.sick = "GPU-0 is sick"
		w.give(onGPU("a"))
		w.want("run a")
		w.scheduler.Stop(lifecycle.Terminate)
		w.want("run a", "terminate a", "store a", "release a")
		close(w.hold)
		w.give(onGPU("b"))
		w.want("run a", "terminate a", "store a", "release a", "run b", "store b", "ack b")
		if w.stored[0].Outcome != api.Interrupted || w.stored[1].Outcome != api.Succeeded {
			w.Errorf("stored %+v", w.stored)
		}
	})
}

func TestTheOneThatWaitsIsGivenBackWhenItsGPUsAreGone(t *testing.T) {
	for name, lose := range map[string]func(*gpu.Pool){
		"sick":     func(p *gpu.Pool) { setHealth(p, "GPU-1", api.Sick, "Xid 79") },
		"retiring": func(p *gpu.Pool) { setHealth(p, "GPU-1", api.Retiring, "remap pending") },
		"removed": func(p *gpu.Pool) {
			p.SetDevices([]gpu.Device{{GPU: api.GPU{UUID: "GPU-0", MemoryBytes: 40 << 30}}}, "")
		},
	} {
		playOn(t, 2, 2, func(w *world) {
			w.give(onGPUs("first", 1)) // on the smaller one
			w.give(onGPUs("head", 2))
			w.want("run first")
			lose(w.pool)
			w.want("run first", "release head")
			if c := w.gate.Snapshot().Counts; c.Waiting != 0 || c.Requeued != 1 {
				w.Errorf("%s: counts %+v, want one requeued", name, c)
			}
			w.give(onGPUs("head", 2))
			w.want("run first", "release head", "refused head")
			close(w.hold)
		})
	}
}

// A failing queue must not keep the one that waits from going back (R5).
func TestTheOneThatWaitsIsGivenBackWhileTheQueueFails(t *testing.T) {
	play(t, func(w *world) {
		w.give(onGPU("first"))
		w.give(onGPU("head"))
		w.want("run first")
		w.failures["fetch"] = 1000
		w.give(cpu("wakes the queue"))
		time.Sleep(time.Minute) // the pauses between tries have grown to seconds
		w.gate.Set(false)
		w.want("run first", "release head")
	})
}

func TestMoreGPUsAreMoreSlots(t *testing.T) {
	within(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.pool = gpu.NewPool(nil)
		w.run(func() int { return max(1, w.pool.Size()) }, t.TempDir(), func() {
			w.give(cpu("a"))
			w.give(cpu("b"))
			w.want("run a")
			w.pool.SetDevices([]gpu.Device{{GPU: api.GPU{UUID: "GPU-0"}}, {GPU: api.GPU{UUID: "GPU-1"}}}, "")
			w.want("run a", "run b")
		})
	})
}

// setHealth says how a GPU is. Nobody else may do so meanwhile.
func setHealth(p *gpu.Pool, uuid string, is api.Health, reason string) {
	var devices []gpu.Device
	for _, g := range p.List() {
		d := gpu.Device{GPU: g}
		if d.UUID == uuid {
			d.Health, d.HealthReason = is, reason
		}
		devices = append(devices, d)
	}
	p.SetDevices(devices, "")
}
