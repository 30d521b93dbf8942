package fakegpu

import (
	"fmt"
	"maps"
	"math"
	"slices"
)

// limits are values that no GPU can have above others; what a model does not
// have is 0 and limits nothing.
var limits = map[string]string{
	"clock_graphics": "max_clock_graphics", "clock_sm": "max_clock_sm", "clock_memory": "max_clock_memory", "clock_video": "max_clock_video",
	"app_clock_graphics": "max_clock_graphics", "app_clock_memory": "max_clock_memory", "pcie_gen": "pcie_gen_max", "pcie_width": "pcie_width_max",
	"power_limit": "power_max", "power_default": "power_max", "pcie_gen_max": "pcie_gen_device",
	"clock_lowest": "max_clock_graphics", "low_clock_graphics": "max_clock_graphics", "low_clock_memory": "max_clock_memory",
}

// agree lets follow what was not set from what was, and refuses what contradicts
// it.
func (g *GPU) agree(set map[string]bool) error {
	n := g.Numbers
	for _, key := range slices.Sorted(maps.Keys(limits)) { // always the same of several
		limit := limits[key]
		if (set[key] || set[limit]) && n[limit] != 0 && n[key] > n[limit] {
			return fmt.Errorf("%s is %d, and %s of this GPU is %d", key, n[key], limit, n[limit])
		}
	}
	if (set["power_limit"] || set["power_min"] && n["power_limit"] != 0) && n["power_limit"] < n["power_min"] {
		return fmt.Errorf("power_limit is %d, and power_min of this GPU is %d", n["power_limit"], n["power_min"])
	}
	if set["mig_mode"] && n["mig_mode"] != 0 && n["mig_max"] == 0 {
		return fmt.Errorf("mig_mode is 1, and this GPU cannot be divided")
	}
	if set["power_limit"] && !set["power"] {
		n["power"] = min(n["power"], n["power_limit"])
	}
	if set["utilization_gpu"] && !set["clock_reasons"] {
		n["clock_reasons"] &^= reasonIdle
		if n["utilization_gpu"] == 0 {
			n["clock_reasons"] |= reasonIdle
		}
	}
	if processes := memoryOf(g.Processes); processes > n["memory_used"] {
		if set["memory_used"] {
			return fmt.Errorf("memory_used is %d, and the processes of this GPU use %d", n["memory_used"], processes)
		}
		n["memory_used"] = processes
	}
	return nil
}

// memoryOf is the memory of some processes; it stays at the largest number, which
// no GPU has.
func memoryOf(processes []Process) (bytes uint64) {
	for _, p := range processes {
		bytes += min(p.Memory, math.MaxUint64-bytes)
	}
	return bytes
}
