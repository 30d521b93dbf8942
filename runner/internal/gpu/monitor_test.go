package gpu

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"

	"github.com/studioml/studio-go-runner/runner/api"
)

// fakeMachine is NVML with GPUs that a test loses and brings back.
type fakeMachine struct {
	nvml.Interface
	gpus  []*fakeGPU
	looks atomic.Int32 // that have begun
}

type fakeGPU struct {
	*mock.Device
	uuid string
	code nvml.Return // what it answers to everything; SUCCESS for the usual
}

func newMachine(uuids ...string) *fakeMachine {
	m := &fakeMachine{}
	for _, uuid := range uuids {
		m.gpus = append(m.gpus, newGPU(uuid))
	}
	lib := &mock.Interface{
		DeviceGetCountFunc: func() (int, nvml.Return) {
			m.looks.Add(1)
			return len(m.gpus), nvml.SUCCESS
		},
		DeviceGetHandleByIndexFunc: func(i int) (nvml.Device, nvml.Return) {
			return m.gpus[i], m.gpus[i].code
		},
		EventSetCreateFunc: func() (nvml.EventSet, nvml.Return) { return nil, nvml.ERROR_NOT_SUPPORTED },
		ShutdownFunc:       func() nvml.Return { return nvml.SUCCESS },
		ExtensionsFunc: func() nvml.ExtendedInterface {
			return &mock.ExtendedInterface{LookupSymbolFunc: func(string) error { return errors.New("missing") }}
		},
	}
	m.Interface = lib
	return m
}

func newGPU(uuid string) *fakeGPU {
	g := &fakeGPU{uuid: uuid}
	no := nvml.ERROR_NOT_SUPPORTED
	g.Device = &mock.Device{
		GetUUIDFunc:       func() (string, nvml.Return) { return uuid, g.code },
		GetNameFunc:       func() (string, nvml.Return) { return "model", g.code },
		GetMemoryInfoFunc: func() (nvml.Memory, nvml.Return) { return nvml.Memory{Total: 1 << 30}, g.code },
		GetP2PStatusFunc:  func(nvml.Device, nvml.GpuP2PCapsIndex) (nvml.GpuP2PStatus, nvml.Return) { return 0, no },
		GetTopologyCommonAncestorFunc: func(nvml.Device) (nvml.GpuTopologyLevel, nvml.Return) {
			return 0, no
		},
		GetTotalEccErrorsFunc: func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) {
			return 0, no
		},
		GetRemappedRowsFunc:              func() (int, int, bool, bool, nvml.Return) { return 0, 0, false, false, no },
		GetRetiredPagesPendingStatusFunc: func() (nvml.EnableState, nvml.Return) { return 0, no },
		GetFieldValuesFunc:               func([]nvml.FieldValue) nvml.Return { return no },
		GetMemoryInfo_v2Func:             func() (nvml.Memory_v2, nvml.Return) { return nvml.Memory_v2{}, no },
		GetTemperatureFunc:               func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 0, no },
		GetPowerUsageFunc:                func() (uint32, nvml.Return) { return 0, no },
		GetSupportedEventTypesFunc:       func() (uint64, nvml.Return) { return 0, no },
		GetMigModeFunc:                   func() (int, int, nvml.Return) { return 0, 0, no },
		GetUtilizationRatesFunc:          func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{}, no },
	}
	return g
}

// newMonitor returns a monitor that has the variables where they are not "-".
func newMonitor(nvidia, cuda string) *Monitor {
	variable := func(s string) *string {
		if s == "-" {
			return nil
		}
		return &s
	}
	return &Monitor{
		NVIDIA: variable(nvidia), CUDA: variable(cuda),
		Pool: NewPool(nil), Log: slog.New(slog.DiscardHandler), HarmlessXids: ApplicationXids,
	}
}

// lookAt looks at a machine.
func (m *Monitor) lookAt(lib nvml.Interface) error {
	m.lib = lib
	return m.look()
}

// healthy is what the pool has to give.
func (p *Pool) healthy() (uuids []string) {
	for _, g := range p.List() {
		if g.Health == api.Healthy {
			uuids = append(uuids, g.UUID)
		}
	}
	slices.Sort(uuids)
	return uuids
}

func TestASilentGPUKeepsItsPlace(t *testing.T) {
	for _, test := range []struct {
		nvidia, cuda string
		silent       []int    // at the first look
		first        []string // what there is then
		later        []string // and when all have answered
	}{
		{"-", "0", []int{0}, nil, []string{"GPU-a"}},
		{"-", "1", []int{0}, []string{"GPU-b"}, []string{"GPU-b"}},
		{"0", "-", []int{0}, nil, []string{"GPU-a"}},
		{"0,2", "1", []int{0}, []string{"GPU-c"}, []string{"GPU-c"}},
		{"0,2", "0", []int{0}, nil, []string{"GPU-a"}},
		{"GPU-a,GPU-b", "-", []int{0}, []string{"GPU-b"}, []string{"GPU-a", "GPU-b"}},
		{"-", "GPU-a,GPU-b", []int{0}, []string{"GPU-b"}, []string{"GPU-a", "GPU-b"}},
		{"-", "GPU-b", []int{0, 2}, []string{"GPU-b"}, []string{"GPU-b"}},
		{"-", "0,1,2", []int{0, 1, 2}, nil, []string{"GPU-a", "GPU-b", "GPU-c"}},
		{"-", "-", []int{0, 1, 2}, nil, []string{"GPU-a", "GPU-b", "GPU-c"}},
		{"all", "2", []int{0, 1, 2}, nil, []string{"GPU-c"}},
		{"GPU-nowhere,GPU-b", "-", []int{0}, []string{"GPU-b"}, []string{"GPU-b"}}, // too late for an error
	} {
		name := fmt.Sprintf("NVIDIA %s, CUDA %s, silent %v", test.nvidia, test.cuda, test.silent)
		t.Run(name, func(t *testing.T) {
			machine := newMachine("GPU-a", "GPU-b", "GPU-c")
			m := newMonitor(test.nvidia, test.cuda)
			for _, i := range test.silent {
				machine.gpus[i].code = nvml.ERROR_GPU_IS_LOST
			}
			want := test.first
			for range 2 {
				if err := m.lookAt(machine); err != nil {
					t.Fatal(err)
				}
				problem := m.Pool.Problem()
				if got := m.Pool.healthy(); !slices.Equal(got, want) {
					t.Errorf("%v, want %v", got, want)
				}
				if unlike := !slices.Equal(test.first, test.later); unlike && (problem == "") != slices.Equal(want, test.later) {
					t.Errorf("problem %q with %v", problem, want)
				}
				for _, g := range machine.gpus {
					g.code = nvml.SUCCESS
				}
				want = test.later
			}
		})
	}
}

func TestAProblemSaysWhichGPUIsSilent(t *testing.T) {
	machine := newMachine("GPU-a", "GPU-b")
	machine.gpus[1].code = nvml.ERROR_GPU_IS_LOST
	m := newMonitor("-", "-")
	if err := m.lookAt(machine); err != nil || m.Pool.Problem() != "GPU 1 has not answered yet: "+nvml.ERROR_GPU_IS_LOST.Error() {
		t.Errorf("problem %q, error %v", m.Pool.Problem(), err)
	}
}

// A GPU that this process has no permission for is another's; CUDA does not
// count it.
func TestAForbiddenGPUHasNoPlace(t *testing.T) {
	machine := newMachine("GPU-a", "GPU-b")
	machine.gpus[0].code = nvml.ERROR_NO_PERMISSION
	m := newMonitor("-", "0")
	if err := m.lookAt(machine); err != nil || m.Pool.Problem() != "" {
		t.Errorf("problem %q, error %v", m.Pool.Problem(), err)
	}
	if got := m.Pool.healthy(); !slices.Equal(got, []string{"GPU-b"}) {
		t.Errorf("%v, want GPU-b", got)
	}
}

func TestVisibleIsAboutTheMachineOfTheStart(t *testing.T) {
	for _, test := range []struct {
		cuda          string
		added, onceGo []string // with one more GPU, and when GPU-a is gone then
	}{
		{"-", []string{"GPU-a", "GPU-b", "GPU-c"}, []string{"GPU-b", "GPU-c"}},
		{"0,1", []string{"GPU-a", "GPU-b"}, []string{"GPU-b"}},
		{"1", []string{"GPU-b"}, []string{"GPU-b"}},
	} {
		machine, m := newMachine("GPU-a", "GPU-b"), newMonitor("-", test.cuda)
		look := func(want []string) {
			t.Helper()
			if err := m.lookAt(machine); err != nil {
				t.Fatal(err)
			}
			if got := m.Pool.healthy(); !slices.Equal(got, want) {
				t.Errorf("CUDA %q: %v, want %v", test.cuda, got, want)
			}
		}
		look(slices.DeleteFunc(slices.Clone(test.added), func(uuid string) bool { return uuid == "GPU-c" }))
		machine.gpus = append(machine.gpus, newGPU("GPU-c"))
		look(test.added)
		machine.gpus = machine.gpus[1:]
		look(test.onceGo)
		machine.gpus = append(machine.gpus, newGPU("GPU-a"))
		look(test.added)
	}
}

func TestAnImpossibleVariableEndsTheRunnerAtTheStart(t *testing.T) {
	var wrong *visibleError
	if err := newMonitor("7,8", "-").lookAt(newMachine("GPU-a")); !errors.As(err, &wrong) {
		t.Errorf("error %v, want one of the configuration", err)
	}
}

// events is a set that gives one event, after that much time.
func events(machine *fakeMachine, takes time.Duration, code nvml.Return, event nvml.EventData) eventSet {
	set := eventSet{gpus: make(map[nvml.Device]string), EventSet: &mock.EventSet{
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

// A GPU that is new may be sick, and what tells may take its time.
func TestAGPUIsNotGivenBeforeItsHealthIsKnown(t *testing.T) {
	machine, m := newMachine("GPU-a"), newMonitor("-", "-")
	machine.gpus[0].GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) {
		if got := m.Pool.healthy(); len(got) > 0 {
			t.Errorf("tasks can have %v already", got)
		}
		return 0, 0, false, true, nvml.SUCCESS
	}
	if err := m.lookAt(machine); err != nil {
		t.Fatal(err)
	}
	if list := m.Pool.List(); len(list) != 1 || list[0].Health != api.Sick {
		t.Errorf("pool %v, want one sick GPU", list)
	}
}

// What NVML fails to tell for a moment is as it was before.
func TestAnAnswerThatFailsChangesNoHealth(t *testing.T) {
	machine, m := newMachine("GPU-a"), newMonitor("-", "-")
	g, code, errors, action := machine.gpus[0], nvml.ERROR_UNKNOWN, uint64(5), nvml.DeviceGpuRecoveryAction(0)
	g.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) {
		if code != nvml.SUCCESS {
			return 0, code
		}
		return errors, code
	}
	g.GetFieldValuesFunc = func(values []nvml.FieldValue) nvml.Return {
		values[0].NvmlReturn = uint32(code)
		if code == nvml.SUCCESS {
			values[0].Value[0] = byte(action)
		}
		return nvml.SUCCESS
	}
	for i, test := range []struct {
		code   nvml.Return
		action nvml.DeviceGpuRecoveryAction
		want   api.Health
	}{
		{nvml.ERROR_UNKNOWN, 0, api.Healthy}, {nvml.SUCCESS, 0, api.Healthy}, // the errors are old
		{nvml.ERROR_UNKNOWN, 0, api.Healthy}, {nvml.SUCCESS, 0, api.Healthy},
		{nvml.SUCCESS, nvml.GPU_RECOVERY_ACTION_GPU_RESET, api.Sick}, {nvml.ERROR_UNKNOWN, 0, api.Sick},
		{nvml.SUCCESS, 0, api.Healthy},
		{nvml.SUCCESS, nvml.GPU_RECOVERY_ACTION_GPU_RESET, api.Sick}, {nvml.ERROR_NOT_SUPPORTED, 0, api.Healthy},
	} {
		code, action = test.code, test.action
		if err := m.lookAt(machine); err != nil {
			t.Fatal(err)
		}
		if got := m.Pool.List()[0]; got.Health != test.want {
			t.Errorf("look %d: %s (%s), want %s", i, got.Health, got.HealthReason, test.want)
		}
	}
}

// The whole GPU would be given away beside its MIG devices.
func TestADividedGPUStaysSoWhileNVMLDoesNotTell(t *testing.T) {
	machine, m := newMachine("GPU-a"), newMonitor("-", "-")
	g, code := machine.gpus[0], nvml.SUCCESS
	g.GetMigModeFunc = func() (int, int, nvml.Return) { return nvml.DEVICE_MIG_ENABLE, 0, code }
	g.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 1, nvml.SUCCESS }
	g.GetMigDeviceHandleByIndexFunc = func(int) (nvml.Device, nvml.Return) {
		part := newGPU("MIG-a")
		part.GetNameFunc = func() (string, nvml.Return) { return "part of a model", nvml.SUCCESS }
		return part, nvml.SUCCESS
	}
	for _, code = range []nvml.Return{nvml.SUCCESS, nvml.ERROR_UNKNOWN, nvml.SUCCESS} {
		if err := m.lookAt(machine); err != nil {
			t.Fatal(err)
		}
		want := []string{"MIG-a"}
		if code != nvml.SUCCESS {
			want = nil
		}
		if got := m.Pool.healthy(); !slices.Equal(got, want) {
			t.Errorf("with error %d: %v, want %v", code, got, want)
		}
		if got := m.Readings()[0].Model; got != "model" {
			t.Errorf("with error %d: the load is that of a %s, want that of the GPU", code, got)
		}
	}
}

func TestTheXidOfALostGPUCanStillBeRead(t *testing.T) {
	machine, m := newMachine("GPU-a"), newMonitor("-", "-")
	for _, code := range []nvml.Return{nvml.SUCCESS, nvml.ERROR_GPU_IS_LOST} {
		machine.gpus[0].code = code
		if err := m.lookAt(machine); err != nil {
			t.Fatal(err)
		}
		m.record("GPU-a").raise(79, nil)
	}
	if got := m.Readings(); len(got) != 1 || got[0].UUID != "GPU-a" || got[0].Model != "model" || values(got[0]) != "XID_ERRORS 79" {
		t.Errorf("read %+v", got)
	}
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
