package gpu

import (
	"cmp"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Reading is what NVML last said about the load of a GPU.
type Reading struct {
	UUID, Model string // of the GPU, also where tasks have its MIG devices
	Index       int
	// Values are those that NVML tells: not the utilization of a GPU in MIG mode, and
	// of one that does not answer only its last Xid, which may tell why.
	Values []Value
}

// Value is a number, with the name and the unit of NVIDIA's dcgm-exporter.
type Value struct {
	Name, Help string
	Value      float64
}

// measureLoad reads what metrics are made of, from the GPU that d is or is part of.
func measureLoad(lib nvml.Interface, gpu nvml.Device, d Device, r *record) Reading {
	reading := Reading{UUID: d.gpu(), Model: cmp.Or(r.model, d.Model), Index: d.Index}
	add := func(code nvml.Return, name, help string, v float64) {
		if code == nvml.SUCCESS {
			reading.Values = append(reading.Values, Value{name, help, v})
		}
	}
	add(nvml.SUCCESS, "XID_ERRORS", "Value of the last XID error encountered.", float64(r.last))
	if r.failure != nil {
		return reading
	}
	celsius, code := gpu.GetTemperature(nvml.TEMPERATURE_GPU)
	add(code, "GPU_TEMP", "GPU temperature (in C).", float64(celsius))
	milliwatts, code := gpu.GetPowerUsage()
	add(code, "POWER_USAGE", "Power draw (in W).", float64(milliwatts)/1000)
	used, code := gpu.GetUtilizationRates()
	add(code, "GPU_UTIL", "GPU utilization (in %).", float64(used.Gpu))
	memory, code := memoryInfo(lib, gpu)
	add(code, "FB_USED", "Framebuffer memory used (in MiB).", float64(memory.Used>>20))
	add(code, "FB_FREE", "Framebuffer memory free (in MiB).", float64(memory.Free>>20))
	add(code, "FB_RESERVED", "Framebuffer memory reserved (in MiB).", float64(memory.Reserved>>20))
	return reading
}

// memoryInfo tells what is used from what the driver has reserved, as nvidia-smi
// does. Drivers before R510 have no such function, and calling one that is
// missing ends the process; to them reserved memory is used.
func memoryInfo(lib nvml.Interface, gpu nvml.Device) (nvml.Memory_v2, nvml.Return) {
	if lib.Extensions().LookupSymbol("nvmlDeviceGetMemoryInfo_v2") == nil {
		if memory, code := gpu.GetMemoryInfo_v2(); code == nvml.SUCCESS {
			return memory, code
		}
	}
	memory, code := gpu.GetMemoryInfo()
	return nvml.Memory_v2{Total: memory.Total, Free: memory.Free, Used: memory.Used}, code
}
