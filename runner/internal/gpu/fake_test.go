package gpu

import (
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"

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
