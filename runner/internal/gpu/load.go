package gpu

import (
	"cmp"
	"math"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Reading is what NVML last said about the load of a GPU. What it does not say,
// as the utilization of a GPU in MIG mode and all but the Xid of one that is lost,
// is NaN; memory is zero in all then.
type Reading struct {
	UUID, Model        string // of the GPU, also where tasks have its MIG devices
	Index              int
	TemperatureCelsius float64
	PowerWatts         float64
	UtilizationPercent float64
	// Memory in bytes; what the driver keeps for itself is reserved, neither used nor free.
	MemoryUsed, MemoryFree, MemoryReserved uint64
	LastXid                                uint64 // 0 for none
}

// measureLoad reads what metrics are made of, from the GPU that d is or is part of.
func measureLoad(lib nvml.Interface, gpu nvml.Device, d Device, r *record) Reading {
	reading := Reading{
		UUID: d.gpu(), Model: cmp.Or(r.model, d.Model), Index: d.Index, LastXid: r.last,
		TemperatureCelsius: math.NaN(), PowerWatts: math.NaN(), UtilizationPercent: math.NaN(),
	}
	if r.failure != nil {
		return reading
	}
	if t, code := gpu.GetTemperature(nvml.TEMPERATURE_GPU); code == nvml.SUCCESS {
		reading.TemperatureCelsius = float64(t)
	}
	if milliwatts, code := gpu.GetPowerUsage(); code == nvml.SUCCESS {
		reading.PowerWatts = float64(milliwatts) / 1000
	}
	if u, code := gpu.GetUtilizationRates(); code == nvml.SUCCESS {
		reading.UtilizationPercent = float64(u.Gpu)
	}
	if memory, code := memoryInfo(lib, gpu); code == nvml.SUCCESS {
		reading.MemoryUsed, reading.MemoryFree, reading.MemoryReserved = memory.Used, memory.Free, memory.Reserved
	}
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
