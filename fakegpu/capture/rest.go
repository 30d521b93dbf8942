package capture

import "github.com/NVIDIA/go-nvml/pkg/nvml"

// clocks are those that the model can have.
func clocks() []figure {
	most := func(clock nvml.ClockType) func(nvml.Device) (uint32, nvml.Return) {
		return func(d nvml.Device) (uint32, nvml.Return) { return d.GetMaxClockInfo(clock) }
	}
	const function = "nvmlDeviceGetMinMaxClockOfPState"
	return []figure{
		of("max_clock_graphics", most(nvml.CLOCK_GRAPHICS)), of("max_clock_sm", most(nvml.CLOCK_SM)),
		of("max_clock_memory", most(nvml.CLOCK_MEM)), of("max_clock_video", most(nvml.CLOCK_VIDEO)),
		since(function, of("clock_lowest", lowest)),
		since(function, of("clock_lowest_video", func(d nvml.Device) (uint32, nvml.Return) {
			least, _, r := d.GetMinMaxClockOfPState(nvml.CLOCK_VIDEO, nvml.PSTATE_0)
			return least, r
		})),
		since(function, of("clock_half_steps", halfSteps)),
		since(function, of("low_clock_memory", lowMemory)),
		since(function, of("low_clock_graphics", func(d nvml.Device) (uint32, nvml.Return) {
			memory, r := lowMemory(d)
			count := supported(d, memory)
			if r != nvml.SUCCESS || count == 0 {
				return 0, r
			}
			least, _ := lowest(d)
			step, r := halfSteps(d)
			return least + (count-1)*step/2, r
		})),
		of("app_clock_graphics", func(d nvml.Device) (uint32, nvml.Return) { return d.GetApplicationsClock(nvml.CLOCK_GRAPHICS) }),
		of("app_clock_memory", func(d nvml.Device) (uint32, nvml.Return) { return d.GetApplicationsClock(nvml.CLOCK_MEM) }),
	}
}

// supported counts the graphics clocks with a memory clock. Which they are
// go-nvml does not tell: it has room for one.
func supported(d nvml.Device, memory uint32) uint32 {
	count, _, r := d.GetSupportedGraphicsClocks(int(memory))
	if memory == 0 || r != nvml.SUCCESS && r != nvml.ERROR_INSUFFICIENT_SIZE {
		return 0
	}
	return uint32(count)
}

func lowest(d nvml.Device) (uint32, nvml.Return) {
	least, _, r := d.GetMinMaxClockOfPState(nvml.CLOCK_GRAPHICS, nvml.PSTATE_0)
	return least, r
}

// halfSteps is the distance of the supported clocks, in halves of a MHz, to the
// nearest.
func halfSteps(d nvml.Device) (uint32, nvml.Return) {
	least, r := lowest(d)
	if r != nvml.SUCCESS {
		return 0, r
	}
	most, r := d.GetMaxClockInfo(nvml.CLOCK_GRAPHICS)
	memory, _ := d.GetMaxClockInfo(nvml.CLOCK_MEM)
	count := supported(d, memory)
	if r != nvml.SUCCESS || count < 2 || most < least {
		return 0, r
	}
	return (2*(most-least) + (count-1)/2) / (count - 1), nvml.SUCCESS
}

// lowMemory is the second memory clock: the highest bound of a performance state
// that is supported, and less than the first.
func lowMemory(d nvml.Device) (second uint32, r nvml.Return) {
	first, r := d.GetMaxClockInfo(nvml.CLOCK_MEM)
	for state := nvml.PSTATE_0; state <= nvml.PSTATE_15; state++ {
		least, most, r := d.GetMinMaxClockOfPState(nvml.CLOCK_MEM, state)
		if r != nvml.SUCCESS {
			continue
		}
		for _, mhz := range []uint32{least, most} {
			if mhz < first && mhz > second && supported(d, mhz) > 0 {
				second = mhz
			}
		}
	}
	return second, r
}

// rest are what a GPU is like at the moment, which should be one when nothing
// uses it.
func rest() []figure {
	clock := func(clock nvml.ClockType) func(nvml.Device) (uint32, nvml.Return) {
		return func(d nvml.Device) (uint32, nvml.Return) { return d.GetClockInfo(clock) }
	}
	return []figure{
		of("pstate", nvml.Device.GetPerformanceState),
		of("clock_graphics", clock(nvml.CLOCK_GRAPHICS)), of("clock_sm", clock(nvml.CLOCK_SM)),
		of("clock_memory", clock(nvml.CLOCK_MEM)), of("clock_video", clock(nvml.CLOCK_VIDEO)),
		of("clock_reasons", nvml.Device.GetCurrentClocksThrottleReasons),
		of("power", nvml.Device.GetPowerUsage),
		of("temperature", func(d nvml.Device) (uint32, nvml.Return) { return d.GetTemperature(nvml.TEMPERATURE_GPU) }),
		of("temperature_memory", func(d nvml.Device) (uint32, nvml.Return) {
			values := []nvml.FieldValue{{FieldId: nvml.FI_DEV_MEMORY_TEMP}}
			r := d.GetFieldValues(values)
			if r == nvml.SUCCESS {
				r = nvml.Return(values[0].NvmlReturn)
			}
			return uint32(values[0].Value[0]), r
		}),
		of("fan_speed", nvml.Device.GetFanSpeed),
		since("nvmlDeviceGetMemoryInfo_v2", of("memory_reserved", func(d nvml.Device) (uint64, nvml.Return) { m, r := d.GetMemoryInfo_v2(); return m.Reserved, r })),
		of("bar1_used", func(d nvml.Device) (uint64, nvml.Return) { m, r := d.GetBAR1MemoryInfo(); return m.Bar1Used, r }),
		of("pcie_gen", nvml.Device.GetCurrPcieLinkGeneration), of("pcie_width", nvml.Device.GetCurrPcieLinkWidth),
		of("persistence", nvml.Device.GetPersistenceMode), of("compute_mode", nvml.Device.GetComputeMode), of("accounting", nvml.Device.GetAccountingMode),
		// Of these three 0 is that the GPU does not tell.
		since("nvmlDeviceGetAddressingMode", of("addressing", func(d nvml.Device) (uint32, nvml.Return) { m, r := d.GetAddressingMode(); return m.Value + 1, r })),
		since("nvmlDeviceGetC2cModeInfoV", of("c2c", func(d nvml.Device) (uint32, nvml.Return) {
			m, r := d.GetC2cModeInfoV().V1()
			return m.IsC2cEnabled + 1, r
		})),
		since("nvmlDeviceGetGpuFabricInfoV", of("fabric", func(d nvml.Device) (uint8, nvml.Return) { i, r := d.GetGpuFabricInfoV().V2(); return i.State, r })),
	}
}
