package gpu

import (
	"errors"
	"fmt"
	"slices"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// errNoNVML means that the machine has no NVML library: the runner goes on
// without GPUs.
var errNoNVML = errors.New("no NVML library, so no GPUs; tasks that need GPUs are left to other runners")

// failure is NVML's answer where it does not tell what a GPU is.
type failure struct {
	text string
	code nvml.Return
}

// inventory lists the GPUs through NVML, and for a GPU that is divided into MIG
// devices those in its place. For a GPU that does not answer, it says by index
// what NVML answered instead. How close the devices are is taken from before if
// they are the same: that does not change, and asking takes a call for each pair.
func inventory(lib nvml.Interface, before []Device) (devices []Device, failures map[int]failure, err error) {
	count, code := lib.DeviceGetCount()
	if code != nvml.SUCCESS {
		return nil, nil, fmt.Errorf("NVML does not count the GPUs: %s", lib.ErrorString(code))
	}
	failures = make(map[int]failure)
	var handles []nvml.Device
	for i := range count {
		handle, code := lib.DeviceGetHandleByIndex(i)
		if code != nvml.SUCCESS {
			failures[i] = failure{lib.ErrorString(code), code}
			continue
		}
		d, what, code := describe(handle)
		if code != nvml.SUCCESS {
			failures[i] = failure{what + ": " + lib.ErrorString(code), code}
			continue
		}
		d.Index = i
		mig, code := divided(lib, handle)
		parted := slices.ContainsFunc(before, func(b Device) bool { return b.Parent == d.UUID })
		if code != nvml.SUCCESS && parted { // its MIG devices may be in use: the whole is not to be had
			failures[i] = failure{"MIG mode: " + lib.ErrorString(code), code}
			continue
		}
		if !mig {
			devices, handles = append(devices, d), append(handles, handle)
			continue
		}
		parts, what, code := migDevices(handle)
		if code != nvml.SUCCESS {
			failures[i] = failure{what + ": " + lib.ErrorString(code), code}
			continue
		}
		for _, part := range parts {
			part.Parent, part.Index = d.UUID, i
			devices, handles = append(devices, part), append(handles, nil)
		}
	}
	if !reuse(devices, before) {
		measure(devices, handles)
	}
	return devices, failures, nil
}

func reuse(devices, before []Device) bool {
	same := func(a, b Device) bool { return a.UUID == b.UUID }
	if !slices.EqualFunc(devices, before, same) {
		return false
	}
	for i := range devices {
		devices[i].Near = before[i].Near
	}
	return true
}

// initError turns what nvmlInit says into what a person can do. Nothing else of
// the library may be called then, not even for the text of the error.
func initError(code nvml.Return) error {
	switch code {
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return errNoNVML
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return errors.New("the NVIDIA driver is not loaded; load it, or set --nvml-library=none to run without GPUs")
	case nvml.ERROR_NO_PERMISSION:
		return errors.New("no permission to talk to the NVIDIA driver; give the runner access to /dev/nvidia*")
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return errors.New("the NVIDIA driver and its library have different versions; reboot, or reload the driver after its update")
	}
	return fmt.Errorf("initialize NVML: error %d", int(code))
}

// describe reads what the device itself knows. If that fails, it says what
// could not be read.
func describe(handle nvml.Device) (d Device, what string, code nvml.Return) {
	if d.UUID, code = handle.GetUUID(); code != nvml.SUCCESS {
		return d, "UUID", code
	}
	if d.Model, code = handle.GetName(); code != nvml.SUCCESS {
		return d, "name", code
	}
	memory, code := handle.GetMemoryInfo()
	if code != nvml.SUCCESS {
		return d, "memory", code
	}
	d.MemoryBytes = memory.Total
	return d, "", nvml.SUCCESS
}

// divided reports whether the GPU is in MIG mode, in which a task can use only
// its MIG devices. A driver older than R450 has no such function, and calling
// one that is missing ends the process.
func divided(lib nvml.Interface, handle nvml.Device) (bool, nvml.Return) {
	if lib.Extensions().LookupSymbol("nvmlDeviceGetMigMode") != nil {
		return false, nvml.SUCCESS
	}
	mode, _, code := handle.GetMigMode()
	if code == nvml.ERROR_NOT_SUPPORTED {
		return false, nvml.SUCCESS
	}
	return code == nvml.SUCCESS && mode == nvml.DEVICE_MIG_ENABLE, code
}

// migDevices lists the MIG devices that exist.
func migDevices(gpu nvml.Device) (parts []Device, what string, code nvml.Return) {
	most, code := gpu.GetMaxMigDeviceCount()
	if code != nvml.SUCCESS {
		return nil, "the number of MIG devices", code
	}
	for i := range most {
		handle, code := gpu.GetMigDeviceHandleByIndex(i)
		if code == nvml.ERROR_NOT_FOUND || code == nvml.ERROR_INVALID_ARGUMENT {
			continue // the indices have gaps
		}
		if code != nvml.SUCCESS {
			return nil, fmt.Sprintf("MIG device %d", i), code
		}
		part, what, code := describe(handle)
		if code != nvml.SUCCESS {
			return nil, fmt.Sprintf("%s of MIG device %d", what, i), code
		}
		parts = append(parts, part)
	}
	return parts, "", nvml.SUCCESS
}

// measure fills in how close the GPUs are. MIG devices, which have no handle
// here, are close to nothing: no task gets two. What NVML does not answer
// counts as far away.
func measure(devices []Device, handles []nvml.Device) {
	for i, a := range handles {
		for j, b := range handles[:i] {
			if a == nil || b == nil {
				continue
			}
			if c := closeness(a, b); c != Far {
				devices[i].near(devices[j].UUID, c)
				devices[j].near(devices[i].UUID, c)
			}
		}
	}
}

func (d *Device) near(uuid string, c Closeness) {
	if d.Near == nil {
		d.Near = make(map[string]Closeness)
	}
	d.Near[uuid] = c
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
