package fakegpu

import "cmp"

// How a GPU is that nothing uses, no data sheet says. A profile has it where
// NVIDIA has published a capture of a real one: what a first query shows, which
// has woken the card, so that it is in P0. For the other models these figures
// are the choice of this package, after those captures. Set changes them.
const (
	restTemperature = 30        // degrees Celsius, of a well cooled machine
	restPowerPart   = 10        // a tenth of the default limit
	restReserved    = 512 << 20 // bytes of the memory that the driver keeps
	restBAR1Used    = 1 << 20   // bytes
	restVideoPart   = 2         // of the highest clock
	reasonIdle      = 1         // nvmlClocksEventReasonGpuIdle
	stackBits       = 1024      // the bus of one stack of HBM
	lowestClock     = 210       // MHz
	halfSteps       = 30        // halves of a MHz from one supported clock to the next
	remapBanks      = 640       // of an A100
)

// hbm tells the large cards from the others: the clocks of theirs fall to the
// lowest as soon as nothing runs, those of the others stay high for the query.
func (g *GPU) hbm() bool { return g.Numbers["bus_width"] >= stackBits }

// fillClocks adds the figures of the clocks of which a model has no source.
func (g *GPU) fillClocks() {
	const ampere = 7 // NVML_DEVICE_ARCH_AMPERE
	n := g.Numbers
	n["clock_lowest"] = cmp.Or(n["clock_lowest"], lowestClock)
	n["clock_half_steps"] = cmp.Or(n["clock_half_steps"], halfSteps)
	if n["ecc"] != 0 && n["architecture"] >= ampere {
		n["remap_banks"] = cmp.Or(n["remap_banks"], remapBanks)
	}
	for app, highest := range map[string]string{"app_clock_graphics": "max_clock_graphics", "app_clock_memory": "max_clock_memory"} {
		if _, ok := n[app]; !ok && g.hbm() {
			n[app] = n[highest]
		}
	}
}

// rest is what a GPU is like when it is plugged in: what its profile says, and
// what this package has chosen.
func (g *GPU) rest() map[string]uint64 {
	n := g.Numbers
	rest := map[string]uint64{
		"memory_reserved": restReserved, "bar1_used": restBAR1Used,
		"temperature": restTemperature, "temperature_memory": 0,
		"fan_speed": 0, // it stands still
		"power":     n["power_default"] / restPowerPart,
		"pstate":    0, "clock_reasons": reasonIdle,
		"clock_graphics": n["max_clock_graphics"], "clock_sm": n["max_clock_sm"],
		"clock_memory": n["max_clock_memory"], "clock_video": n["max_clock_video"],
		"pcie_gen": n["pcie_gen_max"], "pcie_width": n["pcie_width_max"],
		"persistence": 1, // as servers set it
	}
	if g.hbm() {
		rest["temperature_memory"] = restTemperature
		rest["clock_graphics"], rest["clock_sm"] = n["clock_lowest"], n["clock_lowest"]
		rest["clock_video"] = n["max_clock_video"] / restVideoPart
	}
	for key := range rest {
		if figure, ok := n[key]; ok {
			rest[key] = figure
		}
	}
	return rest
}
