package scheduler_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
	"github.com/studioml/studio-go-runner/runner/internal/scheduler"
)

// An outage makes the pauses long. The next one begins with short ones again.
func TestAFetchThatWorksEndsTheLongPauses(t *testing.T) {
	play(t, func(w *world) {
		close(w.hold)
		w.failing("fetch", 8)
		w.tasks <- cpu("a")
		time.Sleep(time.Minute)
		w.want("run a", "store a", "ack a")
		w.failing("fetch", 1)
		w.tasks <- cpu("b")
		time.Sleep(150*time.Millisecond + 1) // the first pause and its jitter
		w.want("run a", "store a", "ack a", "run b", "store b", "ack b")
	})
}

// Until the queue is there again, the pauses grow.
func TestAFetchThatFailsIsNotRepeatedAtOnce(t *testing.T) {
	play(t, func(w *world) {
		w.failing("fetch", 1<<20)
		w.tasks <- cpu("a")
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(w.fetches); n < 12 || n > 30 {
			w.Errorf("%d fetches in a minute, want one about every five seconds", n)
		}
		<-w.tasks
	})
}

func TestAnAttemptThatCannotBeCountedIsGivenBack(t *testing.T) {
	play(t, func(w *world) {
		w.failing("begin", 1)
		w.give(onGPU("a"))
		w.want("release a")
		w.give(onGPU("b")) // the GPU is free again
		w.want("release a", "run b")
		w.wantLog(`level=WARN msg="attempt could not be counted, task given back" task=a error="not now"`)
		close(w.hold)
	})
}

// The task has ended and its GPUs are free, though its result is not stored yet.
func TestATaskThatHasEndedHoldsNoGPU(t *testing.T) {
	play(t, func(w *world) {
		w.failing("store", 1<<20)
		close(w.hold)
		w.give(onGPU("a"))
		s := w.gate.Snapshot()
		if len(s.InFlight) != 1 || len(s.InFlight[0].GPUs) != 0 {
			w.Errorf("in flight %+v, want one without a GPU", s.InFlight)
		}
		w.wantLog(`level=WARN msg="failed, trying again" action="store the result" error="not now"`)
		w.give(onGPU("b"))
		w.want("run a", "run b")
		w.failing("store", 0)
		time.Sleep(10 * time.Second)
	})
}

// What cannot be stored or settled is told when the runner ends, and is not
// said to be finished.
func TestWhatTheEndInterrupts(t *testing.T) {
	for _, call := range []string{"store", "ack", "retry"} {
		var w *world
		play(t, func(story *world) {
			w = story
			if call == "retry" {
				w.outcome = api.Failed
			}
			w.failing(call, 1<<20)
			close(w.hold)
			w.give(cpu("a"))
		})
		w.T = t // the story's is over
		w.wantLog(`level=WARN msg="given up, because the runner ends" action="store the result"`)
		if text := w.text.String(); strings.Contains(text, "task finished") || strings.Contains(text, "task failed, requeued") {
			t.Errorf("log %s says that it worked", text)
		}
	}
}

// wantLog requires lines of the log, which are told without their times.
func (w *world) wantLog(lines ...string) {
	w.Helper()
	text := w.text.String()
	for _, line := range lines {
		if n := strings.Count(text, line); n != 1 {
			w.Errorf("the log has %d times %s:\n%s", n, line, text)
		}
	}
}

func TestWhatPeopleReadOfATask(t *testing.T) {
	for _, test := range []struct {
		name  string
		story func(*world)
		want  []string
	}{
		{"success", func(w *world) { w.give(onGPU("a")) }, []string{
			`msg="task started" task=a attempt=1 gpus=[GPU-0]`,
			`msg="task finished" task=a attempt=1 outcome=Succeeded exit_code=0 duration=0s` + "\n"}},
		{"failure", func(w *world) {
			w.outcome = api.Failed
			w.give(cpu("a"))
		}, []string{`level=INFO msg="task failed, requeued" task=a attempt=1 outcome=Failed`}},
		{"the last failure", func(w *world) {
			w.outcome, w.buries = api.Failed, true
			w.give(cpu("a"))
		}, []string{`level=WARN msg="task failed for the last time, moved to the dead letters" task=a attempt=1 outcome=Failed`}},
		{"a sick GPU", func(w *world) {
			w.outcome, w.sick = api.Failed, "GPU-0 is sick"
			w.give(onGPU("a"))
		}, []string{`level=WARN msg="task given back, its machine failed" task=a attempt=1 outcome=MachineFailed exit_code=0 duration=0s reason="GPU-0 is sick`}},
		{"an attempt that cannot be prepared", func(w *world) {
			w.failing("prepare", 1)
			w.give(cpu("a"))
		}, []string{`level=WARN msg="attempt could not be prepared, task given back" task=a attempt=1 error="not now"`}},
		{"the gate", func(w *world) {
			w.onBegin = func() { w.gate.Set(false) }
			w.give(cpu("a"))
		}, []string{`msg="task given back" task=a attempt=1 reason="the gate closed before it started"`}},
		{"an outage", func(w *world) {
			w.failing("fetch", 1)
			w.give(cpu("a"))
		}, []string{`level=WARN msg="fetch failed" error="not now"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(w *world) {
				close(w.hold)
				test.story(w)
				synctest.Wait()
				w.wantLog(test.want...)
				time.Sleep(time.Minute)
			})
		})
	}
}

func TestWhatPeopleReadOfATaskThatWaits(t *testing.T) {
	play(t, func(w *world) {
		w.give(onGPU("first"))
		const waits = `msg="task waits for GPUs" task=`
		if strings.Contains(w.text.String(), waits) {
			w.Error("a task that has its GPU waits for one")
		}
		w.give(onGPU("second"))
		w.wantLog(waits + "second gpus=1")
		w.scheduler.Stop(lifecycle.Terminate)
		synctest.Wait()
		w.wantLog(`msg="task stopped and given back" task=first attempt=1 outcome=Interrupted`)
		w.give(onGPU("third"))
		w.gate.Set(false)
		synctest.Wait()
		w.wantLog(`msg="task given back" task=third reason="the gate closed before it started"`)
		close(w.hold)
	})
}

// A person who wonders why tasks stay in the queue finds it once, not in every look
// at the queue. After a thousand others it may be told again.
func TestAClassThatNeverFitsIsToldOnce(t *testing.T) {
	play(t, func(w *world) {
		told := func() int {
			return strings.Count(w.text.String(), `msg="tasks left to other runners" gpus=2 gpu_memory=0 reason="this runner has no such GPUs"`)
		}
		for range 3 {
			w.give(onGPUs("big", 2))
		}
		if n := told(); n != 1 {
			w.Errorf("told %d times, want once", n)
		}
		for i := range 999 {
			w.give(onGPUs("other", 3+i))
		}
		w.give(onGPUs("big", 2))
		if n := told(); n != 1 {
			w.Errorf("told %d times beside 999 others, want once", n)
		}
		w.give(onGPUs("the thousandth", 1002))
		w.give(onGPUs("big", 2))
		if n := told(); n != 2 {
			w.Errorf("told %d times beside 1000 others, want twice", n)
		}
	})
}

// A GPU becomes sick between the look and the grasp. The task that was accepted
// for it does not overtake the one that waits once more than it may.
func TestATaskWhoseGPUIsGoneIsGivenBack(t *testing.T) {
	playOn(t, 100, 4, func(w *world) {
		w.give(&api.Task{ID: "first", Command: "x", Resources: api.Resources{GPUs: 1, GPUMemory: 80 << 30}})
		w.give(onGPUs("head", 4))
		for i := range 16 {
			id := fmt.Sprint("small-", i)
			w.give(onGPUs(id, 1))
			close(w.ending(id))
			synctest.Wait()
		}
		w.give(onGPUs("refused", 1)) // all GPUs are kept for the head now
		w.gate.Set(false)
		synctest.Wait()
		w.gate.Set(true)
		close(w.ending("first"))
		synctest.Wait()

		// Now a head that cannot use the small GPUs but for one.
		large := api.Resources{GPUs: 1, GPUMemory: 80 << 30}
		w.give(&api.Task{ID: "first-large", Command: "x", Resources: large})
		w.give(&api.Task{ID: "second-large", Command: "x", Resources: large})
		before := len(w.noted())
		w.fetched = func() {
			for i := range 3 {
				setHealth(w.pool, fmt.Sprint("GPU-", i), api.Sick, "Xid 79")
			}
		}
		w.give(onGPUs("late", 1))
		w.fetched = nil
		if got := w.noted()[before:]; !slices.Equal(got, []string{"release late"}) {
			w.Errorf("log %q, want that late is given back", got)
		}
		w.wantLog(`msg="task given back" task=late reason="a GPU for it has just become sick"`)
		close(w.hold)
	})
}

// Sixteen is the limit also for who was accepted on other GPUs.
func TestTheLimitHoldsForATaskThatMustTakeAnotherGPU(t *testing.T) {
	playOn(t, 100, 3, func(w *world) {
		// GPU-2 is large, and the only one that the head cannot do without.
		w.pool.SetDevices([]gpu.Device{
			{GPU: api.GPU{UUID: "GPU-0", MemoryBytes: 40 << 30}},
			{GPU: api.GPU{UUID: "GPU-1", MemoryBytes: 80 << 30}},
			{GPU: api.GPU{UUID: "GPU-2", MemoryBytes: 80 << 30}},
		}, "")
		large := api.Resources{GPUs: 2, GPUMemory: 80 << 30}
		w.give(&api.Task{ID: "first", Command: "x", Resources: api.Resources{GPUs: 1, GPUMemory: 80 << 30}})
		w.give(&api.Task{ID: "head", Command: "x", Resources: large})
		w.give(onGPUs("holds GPU-0", 1))
		for i := range 16 {
			id := fmt.Sprint("small-", i)
			w.give(onGPUs(id, 1)) // on the large one that is free
			close(w.ending(id))
			synctest.Wait()
		}
		close(w.ending("holds GPU-0"))
		synctest.Wait()
		w.fetched = func() { setHealth(w.pool, "GPU-0", api.Retiring, "remap pending") }
		w.give(onGPUs("late", 1))
		w.fetched = nil
		if got := w.noted(); got[len(got)-1] != "release late" {
			w.Errorf("log %q, want that late is given back", got)
		}
		close(w.hold)
	})
}

// A runner lives for months: what is over is forgotten.
func TestAnAttemptThatIsOverIsForgotten(t *testing.T) {
	play(t, func(w *world) {
		close(w.hold)
		for i := range 5 {
			w.give(cpu(fmt.Sprint("t-", i)))
		}
		if n := w.scheduler.Attempts(); n != 0 {
			w.Errorf("%d attempts are remembered, want none", n)
		}
		for _, a := range w.attempts {
			if a.Terminate.Err() == nil || a.Kill.Err() == nil {
				w.Error("a context of an attempt that is over lives on")
			}
		}
		for _, ctx := range w.fetches[:len(w.fetches)-1] {
			if ctx.Err() == nil {
				w.Error("the context of a fetch that is over lives on")
			}
		}
	})
}

// parent is a context that counts what hangs on it.
type parent struct {
	context.Context
	done chan struct{}

	mu       sync.Mutex
	children int
}

func (p *parent) Done() <-chan struct{} { return p.done }
func (p *parent) Value(any) any         { return nil }
func (p *parent) Err() error {
	select {
	case <-p.done:
		return context.Canceled
	default:
		return nil
	}
}

// AfterFunc is what package context calls for a child.
func (p *parent) AfterFunc(func()) (stop func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.children++
	return func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.children--
		return true
	}
}

func TestNothingHeapsUpOnTheRunnersContext(t *testing.T) {
	within(t)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.pool = gpu.NewPool(nil)
		s := scheduler.New(scheduler.Config{
			Slots: func() int { return 1 }, Gate: w.gate, Queue: w, GPUs: w.pool, Executor: w,
			DrainDir: dir, Log: slog.New(slog.DiscardHandler),
		})
		w.gate.Set(true)
		close(w.hold)
		p := &parent{Context: t.Context(), done: make(chan struct{})}
		ended := make(chan error)
		go func() { ended <- s.Run(p) }()
		synctest.Wait()
		before := p.children
		for i := range 20 {
			w.give(cpu(fmt.Sprint("t-", i)))
		}
		if p.children > before {
			t.Errorf("%d contexts hang on the runner's after 20 tasks, %d did before", p.children, before)
		}
		close(p.done)
		w.gate.Set(false) // the fetch sees neither: parent tells its children nothing
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// The tasks are told of a drain as soon as that is possible.
func TestTheDrainFileIsTriedAgain(t *testing.T) {
	play(t, func(w *world) {
		exists := func() bool {
			_, err := os.Stat(w.drainFile)
			return err == nil
		}
		dir := filepath.Dir(w.drainFile)
		must := func(err error) {
			if err != nil {
				w.Error(err)
			}
		}
		must(os.Remove(dir))
		must(os.WriteFile(dir, nil, 0o600)) // where nothing can be
		for range 3 {                       // of which the first is said
			w.scheduler.SetDraining(true)
			if line := `level=WARN msg="tasks cannot be told of the drain`; strings.Count(w.text.String(), line) != 1 {
				w.Errorf("the log does not have once %s:\n%s", line, w.text.String())
			}
		}
		must(os.Remove(dir))
		must(os.Mkdir(dir, 0o700))
		w.scheduler.SetDraining(true)
		if !exists() {
			w.Error("the drain is not shown although it can be")
		}
		must(os.Remove(w.drainFile)) // by a cleaner
		w.scheduler.SetDraining(false)
		w.scheduler.SetDraining(true)
		if !exists() {
			w.Error("the second drain is not shown")
		}
	})
}
