package fakegpu

import "fmt"

// contextMemory is what a program takes that lets a GPU work, if nothing is said
// of it.
const contextMemory = 512 << 20

// Bits of nvmlClocksEventReasons. The last two are there where the other one of
// heat is.
const (
	reasonIdle   = 0x1
	reasonCapped = 0x4 // by the power
	reasonWarm   = 0x20
	reasonHot    = 0x48
	reasonAll    = 0x1ff
)

var utilizations = []string{
	"utilization_gpu", "utilization_memory", "utilization_encoder", "utilization_decoder", "utilization_jpeg", "utilization_ofa",
}

// workLaws are about a GPU at work: its processes, its memory, its heat, and why
// its clocks are what they are.
var workLaws = []law{
	{keys: []string{processes, "memory_used"}, follow: followMemory, wrong: func(g *GPU) string {
		if used := memoryOf(g.Processes); used > g.Numbers["memory_used"] {
			return fmt.Sprintf("memory_used is %d, and the processes of this GPU use %d", g.Numbers["memory_used"], used)
		}
		return ""
	}},
	{keys: []string{processes, "utilization_gpu"}, follow: followWork, wrong: func(g *GPU) string {
		if work := workOf(g.Processes); work > g.Numbers["utilization_gpu"] {
			return fmt.Sprintf("utilization_gpu is %d, and the processes of this GPU have %d", g.Numbers["utilization_gpu"], work)
		}
		return ""
	}},
	{keys: []string{"utilization_gpu", "memory_used", "memory"}, follow: func(c change) {
		if n := c.Numbers; c.free("memory_used") && n["utilization_gpu"] != 0 && n["memory_used"] == 0 {
			n["memory_used"] = min(contextMemory, n["memory"]-min(n["memory"], n["memory_reserved"]))
		}
	}, wrong: func(g *GPU) string {
		if n := g.Numbers; n["utilization_gpu"] != 0 && n["memory_used"] == 0 && n["memory"] > n["memory_reserved"] {
			return fmt.Sprintf("memory_used is 0, and utilization_gpu is %d: what works uses memory", n["utilization_gpu"])
		}
		return ""
	}},
	throughput("pcie_tx"), throughput("pcie_rx"),
	{keys: append([]string{"clock_reasons"}, utilizations...), follow: followIdle, wrong: func(g *GPU) string {
		if key := g.busy(); key != "" && g.Numbers["clock_reasons"]&reasonIdle != 0 {
			return fmt.Sprintf("clock_reasons says that it is idle, and %s is %d", key, g.Numbers[key])
		}
		return ""
	}},
	{
		keys:   []string{"clock_reasons", "temperature", "temperature_max", "temperature_slowdown", "temperature_memory", "temperature_memory_max"},
		follow: followHeat, wrong: func(g *GPU) string {
			if heat := heatOf(g.Numbers); g.Numbers["clock_reasons"]&heat != heat {
				return fmt.Sprintf("clock_reasons is %#x, and %d degrees belong to %#x", g.Numbers["clock_reasons"], g.Numbers["temperature"], heat)
			}
			return ""
		},
	},
	{keys: []string{"clock_reasons"}, wrong: func(g *GPU) string {
		if n := g.Numbers["clock_reasons"]; n > reasonAll {
			return fmt.Sprintf("clock_reasons is %#x; no GPU has more than %#x", n, reasonAll)
		}
		return ""
	}},
}

func followMemory(c change) {
	if c.free("memory_used") {
		c.Numbers["memory_used"] = max(c.Numbers["memory_used"], memoryOf(c.Processes))
	}
}

func followWork(c change) {
	if work := workOf(c.Processes); c.free("utilization_gpu") && work <= full {
		c.Numbers["utilization_gpu"] = max(c.Numbers["utilization_gpu"], work)
	}
}

// busy is an engine that works.
func (g *GPU) busy() string { return working(g.Numbers) }

func working(n map[string]uint64) string {
	for _, key := range utilizations {
		if n[key] != 0 {
			return key
		}
	}
	return ""
}

// followIdle ends idleness where something works, and begins it where nothing
// does any more.
func followIdle(c change) {
	switch n := c.Numbers; {
	case !c.free("clock_reasons"):
	case c.busy() != "":
		n["clock_reasons"] &^= reasonIdle
	case working(c.before) != "" || !c.free(utilizations...):
		n["clock_reasons"] |= reasonIdle
	}
}

// heatOf are the reasons that a temperature means.
func heatOf(n map[string]uint64) (reasons uint64) {
	over := func(key, limit string) bool { return n[limit] != 0 && n[key] > n[limit] }
	if over("temperature", "temperature_max") || over("temperature_memory", "temperature_memory_max") {
		reasons |= reasonWarm
	}
	if n["temperature_slowdown"] != 0 && n["temperature"] >= n["temperature_slowdown"] {
		reasons |= reasonHot
	}
	return reasons
}

func followHeat(c change) {
	if n := c.Numbers; c.free("clock_reasons") {
		n["clock_reasons"] = n["clock_reasons"]&^heatOf(c.before) | heatOf(n)
	}
}

// throughput is what goes over the link, which is never more than it carries.
func throughput(key string) law {
	carries := func(n map[string]uint64) uint64 {
		return laneKBps[min(n["pcie_gen"], uint64(len(laneKBps)-1))] * n["pcie_width"]
	}
	return law{
		keys: []string{key, "pcie_gen", "pcie_width"},
		follow: func(c change) {
			if c.free(key) && c.Numbers[key] > carries(c.Numbers) {
				c.Numbers[key] = carries(c.Numbers)
			}
		},
		wrong: func(g *GPU) string {
			if n := g.Numbers; n[key] > carries(n) {
				return fmt.Sprintf("%s is %d KB/s, and the link carries %d", key, n[key], carries(n))
			}
			return ""
		},
	}
}
