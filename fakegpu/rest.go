package fakegpu

// A profile has what a model is. How a GPU is while nothing uses it, no data
// sheet says, and each real card differs from the next: these figures are the
// choice of this package, the same for all models. Set changes them.
const (
	restTemperature    = 30        // degrees Celsius, of a well cooled machine
	restPowerPart      = 10        // a tenth of the default limit
	restClock          = 210       // MHz, the lowest clock that nvml_load.c knows
	restPState         = 8         // of the two that nvml_load.c knows, the slower
	restPCIeGeneration = 1         // the link slows down; it keeps its width
	restReserved       = 512 << 20 // bytes of the memory that the driver keeps
	restBAR1Used       = 1 << 20   // bytes
	reasonIdle         = 1         // nvmlClocksEventReasonGpuIdle
	stackBits          = 1024      // the bus of one stack of HBM, which tells its temperature
)

// rest is what a GPU is like when it is plugged in.
func (g *GPU) rest() map[string]uint64 {
	rest := map[string]uint64{
		"memory_reserved": restReserved, "bar1_used": restBAR1Used,
		"temperature": restTemperature, "temperature_memory": 0,
		"fan_speed": 0, // it stands still
		"power":     g.Numbers["power_default"] / restPowerPart,
		"pstate":    restPState, "clock_reasons": reasonIdle,
		"clock_graphics": restClock, "clock_sm": restClock, "clock_memory": restClock, "clock_video": restClock,
		"pcie_gen": restPCIeGeneration, "pcie_width": g.Numbers["pcie_width_max"],
		"persistence": 1, // as servers set it
	}
	if g.Numbers["bus_width"] >= stackBits {
		rest["temperature_memory"] = restTemperature
	}
	return rest
}
