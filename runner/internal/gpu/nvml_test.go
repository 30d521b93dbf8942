package gpu_test

import (
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
)

// handle is a GPU or MIG device of the driver. A call that it has no answer to
// panics.
func handle(uuid string) *mock.Device {
	return &mock.Device{
		GetUUIDFunc:       func() (string, nvml.Return) { return uuid, nvml.SUCCESS },
		GetNameFunc:       func() (string, nvml.Return) { return "model of " + uuid, nvml.SUCCESS },
		GetMemoryInfoFunc: func() (nvml.Memory, nvml.Return) { return nvml.Memory{Total: 40 * gib}, nvml.SUCCESS },
		GetMigModeFunc:    func() (int, int, nvml.Return) { return 0, 0, nvml.ERROR_NOT_SUPPORTED },
		GetP2PStatusFunc: func(nvml.Device, nvml.GpuP2PCapsIndex) (nvml.GpuP2PStatus, nvml.Return) {
			return 0, nvml.ERROR_NOT_SUPPORTED
		},
		GetTopologyCommonAncestorFunc: func(nvml.Device) (nvml.GpuTopologyLevel, nvml.Return) {
			return 0, nvml.ERROR_NOT_SUPPORTED
		},
	}
}

func driver(handles ...*mock.Device) nvml.Interface {
	return &mock.Interface{
		DeviceGetCountFunc: func() (int, nvml.Return) { return len(handles), nvml.SUCCESS },
		DeviceGetHandleByIndexFunc: func(i int) (nvml.Device, nvml.Return) {
			return handles[i], nvml.SUCCESS
		},
	}
}

func TestInventoryWithNoAnswerAboutTheTopology(t *testing.T) {
	got, _, err := gpu.InventoryOf(driver(handle("GPU-0"), handle("GPU-1")))
	want := []gpu.Device{
		{GPU: api.GPU{UUID: "GPU-0", Index: 0, Model: "model of GPU-0", MemoryBytes: 40 * gib}},
		{GPU: api.GPU{UUID: "GPU-1", Index: 1, Model: "model of GPU-1", MemoryBytes: 40 * gib}},
	}
	if err != nil || !cmp.Equal(got, want, cmpopts.EquateEmpty()) {
		t.Errorf("error %v, devices %s", err, cmp.Diff(want, got))
	}
}

func TestInventorySaysWhatCannotBeRead(t *testing.T) {
	lost := handle("GPU-1")
	lost.GetNameFunc = func() (string, nvml.Return) { return "", nvml.ERROR_GPU_IS_LOST }
	devices, failures, err := gpu.InventoryOf(driver(handle("GPU-0"), lost))
	if want := map[int]string{1: "name: " + nvml.ERROR_GPU_IS_LOST.Error()}; err != nil || !cmp.Equal(failures, want) || len(devices) != 1 {
		t.Errorf("devices %v, failures %v, error %v, want %v", devices, failures, err, want)
	}
}

func TestCloseness(t *testing.T) {
	for _, test := range []struct {
		nvlink   nvml.GpuP2PStatus
		ancestor nvml.GpuTopologyLevel
		want     gpu.Closeness
	}{
		{nvml.P2P_STATUS_OK, nvml.TOPOLOGY_SYSTEM, gpu.Linked},
		{nvml.P2P_STATUS_NOT_SUPPORTED, nvml.TOPOLOGY_INTERNAL, gpu.SameSwitch},
		{nvml.P2P_STATUS_NOT_SUPPORTED, nvml.TOPOLOGY_SINGLE, gpu.SameSwitch},
		{nvml.P2P_STATUS_NOT_SUPPORTED, nvml.TOPOLOGY_MULTIPLE, gpu.SameSwitch},
		{nvml.P2P_STATUS_NOT_SUPPORTED, nvml.TOPOLOGY_HOSTBRIDGE, gpu.SameNode},
		{nvml.P2P_STATUS_NOT_SUPPORTED, nvml.TOPOLOGY_NODE, gpu.SameNode},
		{nvml.P2P_STATUS_NOT_SUPPORTED, nvml.TOPOLOGY_SYSTEM, gpu.Far},
	} {
		a, b := handle("GPU-0"), handle("GPU-1")
		for _, h := range []*mock.Device{a, b} {
			h.GetP2PStatusFunc = func(_ nvml.Device, index nvml.GpuP2PCapsIndex) (nvml.GpuP2PStatus, nvml.Return) {
				if index != nvml.P2P_CAPS_INDEX_NVLINK {
					t.Errorf("asked for capability %d", index)
				}
				return test.nvlink, nvml.SUCCESS
			}
			h.GetTopologyCommonAncestorFunc = func(nvml.Device) (nvml.GpuTopologyLevel, nvml.Return) {
				return test.ancestor, nvml.SUCCESS
			}
		}
		devices, _, err := gpu.InventoryOf(driver(a, b))
		if err != nil {
			t.Fatal(err)
		}
		if got, back := devices[0].Near["GPU-1"], devices[1].Near["GPU-0"]; got != test.want || back != test.want {
			t.Errorf("NVLink %d, ancestor %d: %d and back %d, want %d", test.nvlink, test.ancestor, got, back, test.want)
		}
	}
}

func TestInventoryListsMIGDevicesInPlaceOfTheirGPU(t *testing.T) {
	parts := map[int]*mock.Device{0: handle("MIG-a"), 2: handle("MIG-b")}
	divided := handle("GPU-1")
	divided.GetMigModeFunc = func() (int, int, nvml.Return) { return nvml.DEVICE_MIG_ENABLE, 0, nvml.SUCCESS }
	divided.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 7, nvml.SUCCESS }
	divided.GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if part, ok := parts[i]; ok {
			return part, nvml.SUCCESS
		}
		return nil, nvml.ERROR_NOT_FOUND
	}
	machine := []*mock.Device{handle("GPU-0"), divided, handle("GPU-2")}

	devices, _, err := gpu.InventoryOf(driver(machine...))
	want := []gpu.Device{
		{GPU: api.GPU{UUID: "GPU-0", Index: 0, Model: "model of GPU-0", MemoryBytes: 40 * gib}},
		{GPU: api.GPU{UUID: "MIG-a", Parent: "GPU-1", Index: 1, Model: "model of MIG-a", MemoryBytes: 40 * gib}},
		{GPU: api.GPU{UUID: "MIG-b", Parent: "GPU-1", Index: 1, Model: "model of MIG-b", MemoryBytes: 40 * gib}},
		{GPU: api.GPU{UUID: "GPU-2", Index: 2, Model: "model of GPU-2", MemoryBytes: 40 * gib}},
	}
	if err != nil || !cmp.Equal(devices, want, cmpopts.EquateEmpty()) {
		t.Errorf("error %v, devices %s", err, cmp.Diff(want, devices))
	}
}
