package gpu

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/logtest"
)

// watched is a monitor that watches a fake machine in a bubble of fake time, and
// what it did.
type watched struct {
	*Monitor
	*fakeMachine
	log logtest.Text
	ctx context.Context // of the bubble

	mu    sync.Mutex
	event *nvml.EventData // comes once
	hang  time.Duration   // of the next wait for an event
	sets  int             // of events, made and not freed
}

// watchMachine watches a machine with two GPUs while the story goes on.
func watchMachine(t *testing.T, story func(*watched)) {
	within(t)
	synctest.Test(t, func(t *testing.T) {
		w := &watched{Monitor: newMonitor("-", "-"), fakeMachine: newMachine("GPU-a", "GPU-b")}
		w.lib, w.Library = w.fakeMachine, "/no/such/library"
		w.Interval, w.Log = 5*time.Second, slog.New(slog.NewTextHandler(&w.log, nil))
		w.Interface.(*mock.Interface).EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) {
			w.sets++
			return &mock.EventSet{WaitFunc: w.waitEvent, FreeFunc: func() nvml.Return {
				w.sets--
				return nvml.SUCCESS
			}}, nvml.SUCCESS
		}
		for _, g := range w.gpus {
			g.GetSupportedEventTypesFunc = func() (uint64, nvml.Return) { return nvml.EventTypeXidCriticalError, nvml.SUCCESS }
			g.RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return { return nvml.SUCCESS }
		}
		ctx, cancel := context.WithCancel(t.Context())
		w.ctx = ctx
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := w.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		story(w)
		cancel()
		<-done
		if w.sets != 0 {
			t.Errorf("%d sets of events were not freed", w.sets)
		}
	})
}

// within ends the process when a test hangs: a bubble does not notice a lock
// that is never released, nor a loop that never ends.
func within(t *testing.T) {
	t.Helper()
	name := t.Name()
	hangs := time.AfterFunc(time.Minute, func() { panic(name + " hangs") })
	t.Cleanup(func() { hangs.Stop() })
}

func (w *watched) waitEvent(ms uint32) (nvml.EventData, nvml.Return) {
	w.mu.Lock()
	event, hang := w.event, w.hang
	w.event, w.hang = nil, 0
	w.mu.Unlock()
	time.Sleep(hang)
	if event != nil {
		return *event, nvml.SUCCESS
	}
	time.Sleep(time.Duration(ms) * time.Millisecond)
	return nvml.EventData{}, nvml.ERROR_TIMEOUT
}

// set changes the machine. The monitor's lock orders that before its next look.
func (w *watched) set(change func()) {
	w.Monitor.mu.Lock()
	defer w.Monitor.mu.Unlock()
	change()
}

// check looks anew at a GPU.
func (w *watched) check(uuid string) string {
	w.Look(w.ctx)
	return w.Pool.Sick([]string{uuid})
}

func TestTheMachineIsLookedAtEveryInterval(t *testing.T) {
	watchMachine(t, func(w *watched) {
		if n := w.looks.Load(); n != 1 {
			t.Errorf("%d looks at the start, want one", n)
		}
		time.Sleep(50*time.Second + slice)
		if n := w.looks.Load(); n != 11 {
			t.Errorf("%d looks in 50 seconds, want 11", n)
		}
		if got := w.Readings(); len(got) != 2 || got[0].UUID != "GPU-a" || got[1].UUID != "GPU-b" {
			t.Errorf("readings %+v, want those of two GPUs", got)
		}
		text := w.log.String()
		if strings.Count(text, `level=INFO msg="GPUs found" count=2`) != 1 || strings.Contains(text, "GPU health") {
			t.Errorf("the log does not say once what was found, and no more of the healthy:\n%s", text)
		}
	})
}

func TestAnEventCallsForALookAtOnce(t *testing.T) {
	watchMachine(t, func(w *watched) {
		w.mu.Lock()
		w.event = &nvml.EventData{Device: w.gpus[1], EventType: nvml.EventTypeXidCriticalError, EventData: 79}
		w.mu.Unlock()
		time.Sleep(2 * slice)
		synctest.Wait()
		if got := w.Pool.Sick([]string{"GPU-b"}); got != "GPU GPU-b is sick: Xid 79" {
			t.Errorf("Sick is %q", got)
		}
		for _, line := range []string{
			`level=WARN msg=Xid gpu=GPU-b xid=79 harmless=false`,
			`level=WARN msg="GPU health" gpu=GPU-b health=Sick reason="Xid 79"`,
		} {
			if strings.Count(w.log.String(), line) != 1 {
				t.Errorf("the log does not have once %s:\n%s", line, w.log.String())
			}
		}
		// The driver shows the damage, and no longer shows it.
		w.set(func() { w.gpus[1].code = nvml.ERROR_GPU_IS_LOST })
		time.Sleep(w.Interval + slice)
		w.set(func() { w.gpus[1].code = nvml.SUCCESS })
		time.Sleep(w.Interval + slice)
		if line := `level=INFO msg="GPU health" gpu=GPU-b health=Healthy reason=""`; strings.Count(w.log.String(), line) != 1 {
			t.Errorf("the log does not have once %s:\n%s", line, w.log.String())
		}
	})
}

// A task that failed is judged by a look that began after its end.
func TestCheckLooksAnew(t *testing.T) {
	watchMachine(t, func(w *watched) {
		if got := w.check("GPU-a"); got != "" || w.looks.Load() != 2 {
			t.Errorf("it says %q after %d looks, want nothing after the second", got, w.looks.Load())
		}
		start := time.Now()
		w.set(func() { w.gpus[0].code = nvml.ERROR_GPU_IS_LOST })
		got := w.check("GPU-a")
		if want := "GPU GPU-a is sick: " + nvml.ERROR_GPU_IS_LOST.Error(); got != want || time.Since(start) > slice {
			t.Errorf("it says %q after %s, want %q within %s", got, time.Since(start), want, slice)
		}
		if w.check("GPU-b") != "" {
			t.Error("the other GPU is sick")
		}
		looks := w.looks.Load()
		time.Sleep(w.Interval - slice)
		if n := w.looks.Load(); n > looks {
			t.Errorf("%d looks although nobody asks any more", n-looks)
		}
	})
}

// The look in progress may have passed the GPU already.
func TestCheckDuringALookWaitsForTheNext(t *testing.T) {
	watchMachine(t, func(w *watched) {
		reading := make(chan struct{}, 100)
		w.set(func() {
			w.gpus[1].GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) {
				w.gpus[0].code = nvml.ERROR_GPU_IS_LOST // which was read before
				reading <- struct{}{}
				time.Sleep(time.Second)
				return 0, nvml.SUCCESS
			}
		})
		<-reading
		if got, want := w.check("GPU-a"), "GPU GPU-a is sick: "+nvml.ERROR_GPU_IS_LOST.Error(); got != want {
			t.Errorf("it says %q, want %q", got, want)
		}
	})
}

// A driver that hangs holds up nobody for longer than he likes.
func TestWhoWaitsForALookMayGiveUp(t *testing.T) {
	within(t)
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor("-", "-") // nobody looks
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		m.Look(ctx)
		if d := time.Since(start); d != time.Second {
			t.Errorf("it has waited %s, want one second", d)
		}
		waited := make(chan struct{})
		go func() {
			m.Look(t.Context())
			close(waited)
		}()
		synctest.Wait()
		m.begin()()
		<-waited
	})
}

func TestAMachineThatCannotBeCountedEndsTheWatch(t *testing.T) {
	watchMachine(t, func(w *watched) {
		w.set(func() {
			w.Interface.(*mock.Interface).DeviceGetCountFunc = func() (int, nvml.Return) { return 0, nvml.ERROR_UNKNOWN }
		})
		time.Sleep(w.Interval + slice)
		synctest.Wait()
		if line := "NVML does not count the GPUs: " + nvml.ERROR_UNKNOWN.Error(); !strings.Contains(w.log.String(), line) {
			t.Errorf("the log does not have %s:\n%s", line, w.log.String())
		}
		if got := w.Pool.healthy(); len(got) > 0 {
			t.Errorf("healthy %v", got)
		}
	})
}

// A GPU that has never answered is a problem of the machine, told once.
func TestASilentGPUIsTold(t *testing.T) {
	watchMachine(t, func(w *watched) {
		w.set(func() {
			w.gpus = append(w.gpus, newGPU("GPU-c"))
			w.gpus[2].code = nvml.ERROR_GPU_IS_LOST
		})
		time.Sleep(3 * w.Interval)
		problem := "GPU 2 has not answered yet: " + nvml.ERROR_GPU_IS_LOST.Error()
		if got := w.Pool.Problem(); got != problem {
			t.Errorf("problem %q", got)
		}
		if n := strings.Count(w.log.String(), `level=WARN msg="GPUs are not available" problem="`+problem+`"`); n != 1 {
			t.Errorf("told %d times:\n%s", n, w.log.String())
		}
		w.set(func() {
			w.gpus[2].code = nvml.SUCCESS
			w.gpus[2].GetSupportedEventTypesFunc = func() (uint64, nvml.Return) { return 0, nvml.ERROR_NOT_SUPPORTED }
		})
		time.Sleep(w.Interval + slice)
		if text := w.log.String(); w.Pool.Problem() != "" || strings.Count(text, `level=INFO msg="NVML answers"`) != 1 {
			t.Errorf("problem %q, log:\n%s", w.Pool.Problem(), text)
		}
	})
}

// Without events nothing wakes a runner at rest, but who asks; and after an error that came
// at once the monitor does not spin.
func TestTheWaitForAnEventTakesItsTime(t *testing.T) {
	within(t)
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor("-", "-")
		for _, test := range []struct {
			name string
			set  eventSet
			want time.Duration
		}{
			{"no events", eventSet{}, time.Hour},
			{"an error", events(newMachine("GPU-a"), 0, nvml.ERROR_UNKNOWN, nvml.EventData{}), slice},
		} {
			start := time.Now()
			m.events = test.set
			if m.wait(t.Context(), time.Hour) || time.Since(start) != test.want {
				t.Errorf("%s: it has waited %s, want %s", test.name, time.Since(start), test.want)
			}
		}
	})
}

// The refusal of events is told with the first look at which it is so.
func TestEventsThatAreRefusedAreTold(t *testing.T) {
	watchMachine(t, func(w *watched) {
		w.set(func() {
			w.gpus[0].RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return { return nvml.ERROR_UNKNOWN }
			w.gpus[1].code = nvml.ERROR_GPU_IS_LOST // so that the set is made anew
		})
		time.Sleep(w.Interval + slice)
		if line := `level=WARN msg="no events of a GPU" gpu=GPU-a error=`; strings.Count(w.log.String(), line) != 1 {
			t.Errorf("the log does not have once %s:\n%s", line, w.log.String())
		}
		if got := w.Pool.List()[0].Health; got != api.Healthy {
			t.Errorf("GPU-a is %s, want Healthy all the same", got)
		}
	})
}
