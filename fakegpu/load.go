package fakegpu

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

// What a GPU that works is like, as a part of the way from rest to the most that
// it can: the heat stays below the limit, the copies to and from it are far
// slower than the link, and the memory is read and written less than the
// multiprocessors work.
const (
	coolMargin = 5  // degrees below the highest temperature at full load
	linkPart   = 8  // of the link's speed at full load
	memoryPart = 60 // percent of the load
	fanBase    = 30 // percent at the least load
	cappedPart = 73 // percent of the highest clock that the power lets it have, between those of an H100 and an H200 at full load
	full       = 100
)

// laneKBps is what a lane carries in KB/s, by the generation of the link.
var laneKBps = []uint64{0, 250_000, 500_000, 985_000, 1_969_000, 3_938_000, 7_563_000}

// SetLoad lets a GPU work at so many percent: utilization, clocks, performance
// state, power, heat, the link and the memory of its processes move together.
// Energy, and the time for which power has slowed it down, grow from now on.
func SetLoad(dir, gpu string, percent uint64) error {
	return update(dir, "load fake GPUs", func(m *Machine) error {
		if percent == 0 || percent > full {
			return fmt.Errorf("load is %d %%, must be 1 to 100; use idle for none", percent)
		}
		return m.each(gpu, func(g *GPU) error { c := g.changed(); g.work(percent); return c.agree() })
	})
}

// Idle lets a GPU rest: no process uses it.
func Idle(dir, gpu string) error {
	return update(dir, "idle fake GPUs", func(m *Machine) error {
		return m.each(gpu, func(g *GPU) error { c := g.changed(); g.idle(); return c.agree() })
	})
}

// profiled are those of profiles/, which are not to be changed.
var profiled = sync.OnceValue(func() (all []GPU) {
	for _, name := range Profiles() {
		if p, err := LoadProfile(name); err == nil {
			all = append(all, p)
		}
	}
	return all
})

// atRest is what the GPU would be like with nothing to do: as its profile says,
// if it is of one, but for what was set once for all.
func (g *GPU) atRest() map[string]uint64 {
	model := g.clone()
	for key := range g.rest() {
		delete(model.Numbers, key)
	}
	for _, p := range profiled() {
		if p.Name == g.Name && p.Numbers["memory"] == g.Numbers["memory"] {
			maps.Copy(model.Numbers, p.Numbers)
		}
	}
	rest := model.rest()
	for _, kept := range []string{"persistence", "memory_reserved", "bar1_used", "pcie_width"} {
		rest[kept] = g.Numbers[kept]
	}
	return rest
}

func (g *GPU) idle() {
	maps.Copy(g.Numbers, g.atRest())
	g.Processes = nil
	for _, key := range []string{
		"memory_used", "utilization_gpu", "utilization_memory", "utilization_encoder", "utilization_decoder", "utilization_jpeg",
		"utilization_ofa", "pcie_tx", "pcie_rx",
	} {
		g.Numbers[key] = 0
	}
	g.count()
}

func (g *GPU) work(percent uint64) {
	n, rest := g.Numbers, g.atRest()
	part := func(from, to uint64) uint64 { return from + (max(from, to)-from)*percent/full }
	maps.Copy(n, rest)
	n["utilization_gpu"], n["utilization_memory"] = percent, percent*memoryPart/full
	n["pstate"], n["clock_reasons"] = 0, 0
	for _, clock := range []string{"clock_graphics", "clock_sm", "clock_memory", "clock_video"} {
		n[clock] = n["max_"+clock]
	}
	n["power"] = part(rest["power"], cmp.Or(n["power_limit"], n["power_default"]))
	if percent == full {
		n["clock_reasons"] = reasonCapped
		n["clock_graphics"] = g.step(n["max_clock_graphics"] * cappedPart / full)
		n["clock_sm"] = n["clock_graphics"]
	}
	n["temperature"] = part(rest["temperature"], n["temperature_max"]-min(n["temperature_max"], coolMargin))
	if rest["temperature_memory"] != 0 {
		n["temperature_memory"] = part(rest["temperature_memory"], n["temperature"]+coolMargin)
	}
	if n["fans"] != 0 {
		n["fan_speed"] = part(fanBase, full)
	}
	n["pcie_gen"] = n["pcie_gen_max"]
	n["pcie_tx"] = laneKBps[n["pcie_gen"]] * n["pcie_width"] / linkPart * percent / full
	n["pcie_rx"] = n["pcie_tx"]
	room := n["memory"] - n["memory_reserved"]
	g.fill(max(min(1, room), room/full*percent)) // what works uses memory
	g.count()
}

// fill lets the memory that is used be so many bytes: that of the processes, if
// there are some, each of which has the same share of it and of the load.
func (g *GPU) fill(bytes uint64) {
	g.Numbers["memory_used"] = bytes
	g.Processes = slices.Clone(g.Processes)
	for i := range g.Processes {
		g.Processes[i].Memory = bytes / uint64(len(g.Processes))
		g.Processes[i].SM = g.Numbers["utilization_gpu"] / uint64(len(g.Processes))
	}
}

// count lets the counters that grow by themselves do so from now on.
func (g *GPU) count() {
	if g.Numbers["since"] == 0 {
		g.Numbers["since"] = uint64(time.Now().UnixMicro())
		g.Numbers["counted_from"] = g.Numbers["since"]
	}
}

// counters are those that grow by themselves, and from when on.
var counters = []string{"energy", "violation_power", "violation_thermal", "since"}

// settleAhead is longer than it usually takes until all programs see a change.
// Until then they count on by the state before it: of a counter that was settled
// for an earlier moment, a program that comes next would see less. One that has
// seen more itself remembers that, however long it takes (counter.c).
const settleAhead = 50 * time.Millisecond

// settle adds to the counters what comes to them until a change is seen, as the
// library tells it: they go on from there by what is true then.
func (m *Machine) settle(now time.Time) {
	until := uint64(now.Add(settleAhead).UnixMicro())
	add := func(n map[string]uint64, key string, more float64) {
		n[key] += min(uint64(more), math.MaxUint64-n[key])
	}
	for i := range m.GPUs {
		n := m.GPUs[i].Numbers
		if since := n["since"]; since != 0 && until > since {
			passed := float64(until - since)
			add(n, "energy", passed*float64(n["power"])/1e6) // milliwatts, microseconds, millijoules
			add(n, "violation_power", passed*1e3*bit(n["clock_reasons"]&reasonCapped))
			add(n, "violation_thermal", passed*1e3*bit(n["clock_reasons"]&reasonThermal))
			n["since"] = until
		}
	}
}

// reasonThermal are nvmlClocksEventReasonSwThermalSlowdown and
// nvmlClocksThrottleReasonHwThermalSlowdown.
const reasonThermal = 0x20 | 0x40

func bit(set uint64) float64 {
	if set != 0 {
		return 1
	}
	return 0
}
