package gpu

import (
	"errors"
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// ErrNoNVML means that the machine has no NVML library: the runner goes on
// without GPUs.
var ErrNoNVML = errors.New("no NVML library, so no GPUs; tasks that need GPUs are left to other runners")

// Inventory lists the GPUs through NVML. An empty library name means the
// loader's own search for libnvidia-ml.so.1.
func Inventory(library string) (devices []Device, err error) {
	var options []nvml.LibraryOption
	if library != "" {
		options = append(options, nvml.WithLibraryPath(library))
	}
	lib := nvml.New(options...)
	if code := lib.Init(); code != nvml.SUCCESS {
		return nil, initError(code)
	}
	defer func() {
		if code := lib.Shutdown(); code != nvml.SUCCESS && err == nil {
			err = fmt.Errorf("shut down NVML: %s", lib.ErrorString(code))
		}
	}()
	count, code := lib.DeviceGetCount()
	if code != nvml.SUCCESS {
		return nil, fmt.Errorf("count GPUs: %s", lib.ErrorString(code))
	}
	for i := range count {
		d, err := describe(lib, i)
		if err != nil {
			return nil, err
		}
		devices = append(devices, d)
	}
	return devices, nil
}

// initError turns what nvmlInit says into what a person can do. Nothing else of
// the library may be called then, not even for the text of the error.
func initError(code nvml.Return) error {
	switch code {
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return ErrNoNVML
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return errors.New("the NVIDIA driver is not loaded; load it, or set --nvml-library=none to run without GPUs")
	case nvml.ERROR_NO_PERMISSION:
		return errors.New("no permission to talk to the NVIDIA driver; give the runner access to /dev/nvidia*")
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return errors.New("the NVIDIA driver and its library have different versions; reboot, or reload the driver after its update")
	}
	return fmt.Errorf("initialize NVML: error %d", int(code))
}

func describe(lib nvml.Interface, index int) (Device, error) {
	fail := func(what string, code nvml.Return) (Device, error) {
		return Device{}, fmt.Errorf("read %s of GPU %d: %s", what, index, lib.ErrorString(code))
	}
	handle, code := lib.DeviceGetHandleByIndex(index)
	if code != nvml.SUCCESS {
		return fail("handle", code)
	}
	uuid, code := handle.GetUUID()
	if code != nvml.SUCCESS {
		return fail("UUID", code)
	}
	model, code := handle.GetName()
	if code != nvml.SUCCESS {
		return fail("name", code)
	}
	memory, code := handle.GetMemoryInfo()
	if code != nvml.SUCCESS {
		return fail("memory", code)
	}
	return Device{UUID: uuid, Index: index, Model: model, MemoryBytes: memory.Total}, nil
}
