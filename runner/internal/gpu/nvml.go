package gpu

import (
	"errors"
	"fmt"
	"slices"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/studioml/studio-go-runner/runner/api"
)

// errNoNVML means that the machine has no NVML library: the runner goes on
// without GPUs.
var errNoNVML = errors.New("no NVML library, so no GPUs; tasks that need GPUs are left to other runners")

// inventory is what NVML lists at one look.
type inventory struct {
	devices  []Device               // the GPUs, and in place of one that is divided its MIG devices
	gpus     map[string]nvml.Device // those behind the devices, by UUID
	failures map[int]error          // by index, what NVML answers instead of telling what a GPU is
}

// takeInventory lists the GPUs through NVML. How close the devices are is taken
// from before if they are the same: that does not change, and asking takes a call
// for each pair.
func takeInventory(lib nvml.Interface, before []Device) (inventory, error) {
	found := inventory{gpus: make(map[string]nvml.Device), failures: make(map[int]error)}
	count, code := lib.DeviceGetCount()
	if code != nvml.SUCCESS {
		return found, fmt.Errorf("NVML does not count the GPUs: %w", code)
	}
	for i := range count {
		gpu, code := lib.DeviceGetHandleByIndex(i)
		if code != nvml.SUCCESS {
			found.failures[i] = code
			continue
		}
		devices, err := devicesOf(gpu, before)
		if err != nil {
			found.failures[i] = err
			continue
		}
		for _, d := range devices {
			d.Index = i
			found.devices, found.gpus[d.gpu()] = append(found.devices, d), gpu
		}
	}
	if slices.EqualFunc(found.devices, before, func(a, b Device) bool { return a.UUID == b.UUID }) {
		for i := range before {
			found.devices[i].Near = before[i].Near
		}
	} else {
		found.measure()
	}
	return found, nil
}

// devicesOf returns what tasks can have of a GPU: the whole, or the MIG devices
// that exist.
func devicesOf(gpu nvml.Device, before []Device) (parts []Device, err error) {
	whole, err := describe(gpu)
	if err != nil {
		return nil, err
	}
	mode, _, code := gpu.GetMigMode()
	divided := slices.ContainsFunc(before, func(b Device) bool { return b.Parent == whole.UUID })
	switch {
	case code == nvml.SUCCESS && mode == nvml.DEVICE_MIG_ENABLE:
	case code == nvml.SUCCESS, code == nvml.ERROR_NOT_SUPPORTED, !divided:
		return []Device{whole}, nil
	default: // its MIG devices may be in use: the whole is not to be had
		return nil, fmt.Errorf("MIG mode: %w", code)
	}
	most, code := gpu.GetMaxMigDeviceCount()
	if code != nvml.SUCCESS {
		return nil, fmt.Errorf("the number of MIG devices: %w", code)
	}
	for i := range most {
		handle, code := gpu.GetMigDeviceHandleByIndex(i)
		if code == nvml.ERROR_NOT_FOUND || code == nvml.ERROR_INVALID_ARGUMENT {
			continue // the indices have gaps
		}
		if code != nvml.SUCCESS {
			return nil, fmt.Errorf("MIG device %d: %w", i, code)
		}
		part, err := describe(handle)
		if err != nil {
			return nil, fmt.Errorf("MIG device %d: %w", i, err)
		}
		part.Parent = whole.UUID
		parts = append(parts, part)
	}
	return parts, nil
}

// describe reads what the device itself knows.
func describe(handle nvml.Device) (Device, error) {
	uuid, code := handle.GetUUID()
	if code != nvml.SUCCESS {
		return Device{}, fmt.Errorf("UUID: %w", code)
	}
	model, code := handle.GetName()
	if code != nvml.SUCCESS {
		return Device{}, fmt.Errorf("name: %w", code)
	}
	memory, code := handle.GetMemoryInfo()
	if code != nvml.SUCCESS {
		return Device{}, fmt.Errorf("memory: %w", code)
	}
	return Device{GPU: api.GPU{UUID: uuid, Model: model, MemoryBytes: memory.Total}}, nil
}

// measure fills in how close the GPUs are. MIG devices are close to nothing: no
// task gets two. What NVML does not answer counts as far away.
func (f *inventory) measure() {
	for i, a := range f.devices {
		f.devices[i].Near = make(map[string]Closeness)
		for _, b := range f.devices[:i] {
			if a.Parent != "" || b.Parent != "" {
				continue
			}
			if c := closeness(f.gpus[a.UUID], f.gpus[b.UUID]); c != Far {
				f.devices[i].Near[b.UUID], b.Near[a.UUID] = c, c
			}
		}
	}
}

// closeness asks for the NUMA node only by the way to the other GPU: what NVML
// calls the NUMA node of a GPU is the one that the GPU itself is, on machines
// where it is one.
func closeness(a, b nvml.Device) Closeness {
	if status, code := a.GetP2PStatus(b, nvml.P2P_CAPS_INDEX_NVLINK); code == nvml.SUCCESS && status == nvml.P2P_STATUS_OK {
		return Linked
	}
	level, code := a.GetTopologyCommonAncestor(b)
	switch {
	case code != nvml.SUCCESS:
		return Far
	case level <= nvml.TOPOLOGY_MULTIPLE:
		return SameSwitch
	case level <= nvml.TOPOLOGY_NODE:
		return SameNode
	}
	return Far
}

// initErrors turn what nvmlInit says into what a person can do.
var initErrors = map[nvml.Return]error{
	nvml.ERROR_LIBRARY_NOT_FOUND:       errNoNVML,
	nvml.ERROR_DRIVER_NOT_LOADED:       errors.New("the NVIDIA driver is not loaded; load it, or set --nvml-library=none to run without GPUs"),
	nvml.ERROR_NO_PERMISSION:           errors.New("no permission to talk to the NVIDIA driver; give the runner access to /dev/nvidia*"),
	nvml.ERROR_LIB_RM_VERSION_MISMATCH: errors.New("the NVIDIA driver and its library have different versions; reboot, or reload the driver after its update"),
}
