package fakegpu

import (
	"cmp"
	"maps"
	"slices"
)

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
	stackBits       = 1024      // the bus of one stack of HBM
	lowestClock     = 210       // MHz
	halfSteps       = 30        // halves of a MHz from one supported clock to the next
	lowMemoryClock  = 405       // MHz, of the captures of cards without HBM; also the highest graphics clock with it
	remapBanks      = 640       // of an A100
)

// hbm tells the large cards from the others: the clocks of theirs fall to the
// lowest as soon as nothing runs, those of the others stay high for the query.
func (g *GPU) hbm() bool { return g.Numbers["bus_width"] >= stackBits }

// fillClocks adds the figures of the clocks of which a model has no source.
func (g *GPU) fillClocks() {
	n := g.Numbers
	for a, b := range map[string]string{"max_clock_graphics": "max_clock_sm", "max_clock_sm": "max_clock_graphics"} { // one clock
		if highest := cmp.Or(n[a], n[b]); highest != 0 {
			n[a] = highest
		}
	}
	if video := n["max_clock_video"]; video != 0 && n["clock_lowest_video"] == 0 {
		n["clock_lowest_video"] = min(video, cmp.Or(n["clock_lowest"], lowestClock))
		if g.hbm() { // which is then at it
			n["clock_lowest_video"] = cmp.Or(n["clock_video"], video/restVideoPart)
		}
	}
	n["clock_half_steps"] = cmp.Or(n["clock_half_steps"], halfSteps)
	if n["clock_lowest"] == 0 { // so far below the highest that this one is a step
		above := n["max_clock_graphics"] - min(n["max_clock_graphics"], lowestClock)
		n["clock_lowest"] = n["max_clock_graphics"] - 2*above/n["clock_half_steps"]*n["clock_half_steps"]/2
	}
	if _, ok := n["low_clock_memory"]; !ok && !g.hbm() && n["max_clock_memory"] > lowMemoryClock && n["max_clock_graphics"] > lowMemoryClock {
		n["low_clock_memory"], n["low_clock_graphics"] = lowMemoryClock, max(g.step(lowMemoryClock), n["clock_lowest"])
	}
	if n["ecc"] != 0 && n["architecture"] >= ampere {
		n["remap_banks"] = cmp.Or(n["remap_banks"], remapBanks)
	}
	for app, highest := range map[string]string{"app_clock_graphics": "max_clock_graphics", "app_clock_memory": "max_clock_memory"} {
		if _, ok := n[app]; !ok && g.hbm() {
			n[app] = n[highest]
		}
	}
}

// complete adds to what a profile says what it leaves out, and lets follow what is
// free to: that which was read of a card while it changed.
func (g *GPU) complete(free ...string) error {
	c := change{GPU: g, set: make(map[string]bool)}
	for key := range g.Numbers {
		c.set[key] = !slices.Contains(free, key)
	}
	g.fillClocks()
	maps.Copy(g.Numbers, g.rest())
	g.fillMIG()
	return c.agree()
}

// part is one of so many of what there is, and not nothing.
func part(all, parts uint64) uint64 { return max(min(1, all), all/parts) }

// rest is what a GPU is like when it is plugged in: what its profile says, and
// what this package has chosen.
func (g *GPU) rest() map[string]uint64 {
	n := g.Numbers
	rest := map[string]uint64{
		"memory_reserved": min(restReserved, n["memory"]/16), "bar1_used": min(restBAR1Used, n["bar1"]),
		"temperature": restTemperature, "temperature_memory": 0,
		"fan_speed": 0, // it stands still
		"power":     part(cmp.Or(n["power_default"], n["power_limit"]), restPowerPart),
		"pstate":    0, "clock_reasons": reasonIdle,
		"clock_graphics": n["max_clock_graphics"], "clock_sm": n["max_clock_sm"],
		"clock_memory": n["max_clock_memory"], "clock_video": n["max_clock_video"],
		"pcie_gen": n["pcie_gen_max"], "pcie_width": n["pcie_width_max"],
		"persistence": 1, // as servers set it
	}
	if g.hbm() {
		rest["temperature_memory"] = restTemperature
		rest["clock_graphics"], rest["clock_sm"] = n["clock_lowest"], n["clock_lowest"]
		rest["clock_video"] = part(n["max_clock_video"], restVideoPart)
	}
	for key := range rest {
		if figure, ok := n[key]; ok {
			rest[key] = figure
		}
	}
	return rest
}
