package gpu

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"

	"github.com/studioml/studio-go-runner/runner/api"
)

// After a hang of the wait for events, too, nothing but a look tells how things are, and
// tasks do not wait for the interval until then.
func TestALookFollowsAHang(t *testing.T) {
	watchMachine(t, func(w *watched) {
		w.Look(w.ctx) // an interval begins
		w.mu.Lock()
		w.hang = hangLimit + slice
		w.mu.Unlock()
		time.Sleep(slice + hangLimit)
		synctest.Wait()
		if got := w.Pool.healthy(); len(got) != 0 {
			t.Errorf("healthy %v while NVML hangs", got)
		}
		time.Sleep(4 * slice)
		if got, problem := w.Pool.healthy(), w.Pool.Problem(); len(got) != 2 || problem != "" {
			t.Errorf("healthy %v, problem %q, want both GPUs back", got, problem)
		}
	})
}

// A GPU whose fatal Xid came while a look hung is not given to a task that waits for the
// end of the hang.
func TestAnXidDuringAHangIsHeardBeforeItsEnd(t *testing.T) {
	watchMachine(t, func(w *watched) {
		w.set(func() {
			w.gpus[1].GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) {
				time.Sleep(2 * hangLimit)
				w.mu.Lock()
				w.event = &nvml.EventData{Device: w.gpus[0], EventType: nvml.EventTypeXidCriticalError, EventData: 79}
				w.mu.Unlock()
				return 0, nvml.SUCCESS
			}
		})
		go w.Look(w.ctx)
		time.Sleep(3 * hangLimit) // in the second look
		synctest.Wait()
		w.set(func() { w.gpus[1].GetTemperatureFunc = w.gpus[0].GetTemperatureFunc })
		var given []string
		for state := w.Pool.State(); w.ctx.Err() == nil; state = w.Pool.State() {
			uuids, _ := w.Pool.Reserve("a task that needs one", api.Resources{GPUs: 1}, nil)
			if given = append(given, uuids...); len(given) > 0 {
				break
			}
			<-state.Done()
		}
		if got := strings.Join(given, " "); got != "GPU-b" {
			t.Errorf("given away: %q, want the GPU that is well", got)
		}
	})
}

// A driver that takes its time to fail is left alone for the interval, as any other.
func TestAfterAHangThatFailsTheMonitorRests(t *testing.T) {
	watchMachine(t, func(w *watched) {
		w.set(func() {
			w.Interface.(*mock.Interface).DeviceGetCountFunc = func() (int, nvml.Return) {
				time.Sleep(hangLimit + slice)
				return 0, nvml.ERROR_UNKNOWN
			}
		})
		w.Look(w.ctx)
		time.Sleep(w.Interval - slice)
		synctest.Wait()
		if got, want := w.Pool.Problem(), "NVML does not count the GPUs: "+nvml.ERROR_UNKNOWN.Error(); got != want {
			t.Errorf("problem %q, want still %q", got, want)
		}
		time.Sleep(2 * slice)
		synctest.Wait()
		if got := w.Pool.Problem(); got != errNoNVML.Error() { // the library that a test has
			t.Errorf("problem %q, want that of the next try", got)
		}
	})
}

func TestAHangIsNoticedAfterItsTime(t *testing.T) {
	within(t)
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor("-", "-")
		m.Pool.SetDevices([]Device{{GPU: api.GPU{UUID: "GPU-a"}}}, "")
		m.begin()
		time.Sleep(hangLimit - 1)
		synctest.Wait()
		if len(m.Pool.healthy()) != 1 {
			t.Error("a hang is noticed before its time")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if len(m.Pool.healthy()) != 0 || !strings.HasPrefix(m.Pool.Problem(), "NVML has not answered since ") {
			t.Errorf("healthy %v, problem %q", m.Pool.healthy(), m.Pool.Problem())
		}
		// Between its questions NVML owes no answer.
		m = newMonitor("-", "-")
		m.Pool.SetDevices([]Device{{GPU: api.GPU{UUID: "GPU-a"}}}, "")
		m.begin()()
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(m.Pool.healthy()) != 1 {
			t.Error("a hang is noticed although the look is over")
		}
		m.events = events(newMachine("GPU-a"), 0, nvml.ERROR_TIMEOUT, nvml.EventData{})
		m.wait(t.Context(), 0)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(m.Pool.healthy()) != 1 {
			t.Error("a hang is noticed although nothing was asked")
		}
		m.begin()
		time.Sleep(hangLimit)
		synctest.Wait()
		if len(m.Pool.healthy()) != 0 {
			t.Error("a hang of a later look is not noticed")
		}
	})
}
