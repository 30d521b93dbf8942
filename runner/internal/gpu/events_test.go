package gpu

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"

	"github.com/studioml/studio-go-runner/runner/api"
)

// events is a set that gives one event, after that much time.
func events(machine *fakeMachine, takes time.Duration, code nvml.Return, event nvml.EventData) eventSet {
	set := eventSet{gpus: make(map[nvml.Device]string), EventSet: &mock.EventSet{
		FreeFunc: func() nvml.Return { return nvml.SUCCESS },
		WaitFunc: func(uint32) (nvml.EventData, nvml.Return) {
			time.Sleep(takes)
			return event, code
		},
	}}
	for _, g := range machine.gpus {
		set.gpus[g] = g.uuid
	}
	return set
}

func TestAnXidOfAGPUThatIsLostIsRemembered(t *testing.T) {
	machine, m := newMachine("GPU-a", "GPU-b"), newMonitor("-", "-")
	lost := machine.gpus[1]
	lost.code = nvml.ERROR_GPU_IS_LOST
	m.events = events(machine, 0, nvml.SUCCESS, nvml.EventData{Device: lost, EventType: nvml.EventTypeXidCriticalError, EventData: 79})
	if !m.wait(t.Context(), 0) {
		t.Error("no look at once")
	}
	if r := m.record("GPU-b"); r.xid != 79 || r.last != 79 {
		t.Errorf("remembered Xid %d, want 79", r.xid)
	}
}

// On a busy machine the end of a wait may have passed before it begins: a number below
// zero would be 49 days to NVML.
func TestAWaitThatIsOverBeforeItBegins(t *testing.T) {
	m, asked := newMonitor("-", "-"), uint32(1)
	m.events = eventSet{EventSet: &mock.EventSet{WaitFunc: func(timeout uint32) (nvml.EventData, nvml.Return) {
		asked = timeout
		return nvml.EventData{}, nvml.ERROR_TIMEOUT
	}}}
	if m.wait(t.Context(), -time.Second) || asked != 0 {
		t.Errorf("NVML is asked to wait for %d ms, want 0", asked)
	}
}

func TestALostGPUCallsForALook(t *testing.T) {
	within(t)
	synctest.Test(t, func(t *testing.T) {
		machine, m := newMachine("GPU-a"), newMonitor("-", "-")
		for code, want := range map[nvml.Return]bool{nvml.ERROR_GPU_IS_LOST: true, nvml.ERROR_TIMEOUT: false, nvml.ERROR_UNKNOWN: false} {
			m.events = events(machine, 0, code, nvml.EventData{})
			if got := m.wait(t.Context(), slice); got != want {
				t.Errorf("after error %d: %v, want %v", code, got, want)
			}
		}
	})
}

// What comes while the GPUs are looked at is heard at the end of that look, and the next one
// tells what it has done.
func TestAnEventDuringALookIsFollowedByAnother(t *testing.T) {
	watchMachine(t, func(w *watched) {
		w.set(func() {
			w.gpus[1].GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) {
				if w.looks.Load() == 2 {
					w.mu.Lock()
					w.event = &nvml.EventData{Device: w.gpus[1], EventType: nvml.EventTypeXidCriticalError, EventData: 13}
					w.mu.Unlock()
				}
				return 0, nvml.SUCCESS
			}
		})
		w.Look(w.ctx)
		synctest.Wait()
		if n := w.looks.Load(); n != 3 {
			t.Errorf("%d looks, want one at the start, one with the event, and one after it", n)
		}
		if got := w.Readings()[1].Values[0]; got.Name != "XID_ERRORS" || got.Value != 13 {
			t.Errorf("the last reading is %+v, want the Xid", got)
		}
	})
}

// What came between the look and the end of the old set is not lost with that.
func TestTheOldSetIsReadForTheLastTime(t *testing.T) {
	machine, m := newMachine("GPU-a"), newMonitor("-", "-")
	m.lib = machine
	m.events = events(machine, 0, nvml.SUCCESS, nvml.EventData{
		Device: machine.gpus[0], EventType: nvml.EventTypeXidCriticalError, EventData: 79,
	})
	m.subscribe(nil)
	if r := m.record("GPU-a"); r.xid != 79 || m.events.EventSet != nil {
		t.Errorf("remembered Xid %d, want 79", r.xid)
	}
}

// A driver that is never out of events is looked at all the same.
func TestEventsWithoutEnd(t *testing.T) {
	within(t)
	machine, m := newMachine("GPU-a"), newMonitor("-", "-")
	m.events = events(machine, 0, nvml.SUCCESS, nvml.EventData{Device: machine.gpus[0]})
	if err := m.lookAt(machine); err != nil || len(m.Pool.healthy()) != 1 {
		t.Errorf("%v, healthy %v", err, m.Pool.healthy())
	}
}

// Whatever NVML is asked after an event is under the watch, too.
func TestAHangAfterAnEventIsNoticed(t *testing.T) {
	within(t)
	synctest.Test(t, func(t *testing.T) {
		machine, m := newMachine("GPU-a"), newMonitor("-", "-")
		if err := m.lookAt(machine); err != nil {
			t.Fatal(err)
		}
		other := newGPU("GPU-unknown to the set")
		other.GetUUIDFunc = func() (string, nvml.Return) {
			time.Sleep(8 * time.Second)
			return "", nvml.ERROR_GPU_IS_LOST
		}
		m.events = events(machine, 0, nvml.SUCCESS, nvml.EventData{Device: other, EventType: nvml.EventTypeXidCriticalError, EventData: 79})
		done := make(chan bool)
		go func() { done <- m.wait(t.Context(), slice) }()
		time.Sleep(hangLimit + time.Second)
		synctest.Wait()
		if g := m.Pool.List()[0]; g.Health != api.Retiring || !strings.Contains(g.HealthReason, "not answered since") {
			t.Errorf("GPU is %s for %q, want Retiring", g.Health, g.HealthReason)
		}
		<-done
	})
}

// A set that does not have all GPUs is made anew, and what cannot be had is
// logged once.
func TestEventsThatWereRefusedAreAskedForAgain(t *testing.T) {
	machine, m := newMachine("GPU-a", "GPU-b"), newMonitor("-", "-")
	var log bytes.Buffer
	m.Log = slog.New(slog.NewTextHandler(&log, nil))
	machine.Interface.(*mock.Interface).EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) {
		return &mock.EventSet{
			FreeFunc: func() nvml.Return { return nvml.SUCCESS },
			WaitFunc: func(uint32) (nvml.EventData, nvml.Return) { return nvml.EventData{}, nvml.ERROR_TIMEOUT },
		}, nvml.SUCCESS
	}
	answers := map[string]nvml.Return{"GPU-a": nvml.ERROR_UNKNOWN}
	asked := make(map[string]int)
	gpus := make(map[nvml.Device]string)
	for _, g := range machine.gpus {
		gpus[g] = g.uuid
		g.GetSupportedEventTypesFunc = func() (uint64, nvml.Return) { return nvml.EventTypeXidCriticalError, nvml.SUCCESS }
		g.RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return {
			asked[g.uuid]++
			return answers[g.uuid]
		}
	}
	m.lib = machine
	for i, want := range []int{1, 2, 3, 3} {
		if i == 2 {
			delete(answers, "GPU-a")
		}
		m.subscribe(gpus)
		if asked["GPU-a"] != want {
			t.Errorf("look %d: asked %d times, want %d", i, asked["GPU-a"], want)
		}
	}
	if got := strings.Count(log.String(), "no events"); got != 1 {
		t.Errorf("logged %d times:\n%s", got, &log)
	}
}
