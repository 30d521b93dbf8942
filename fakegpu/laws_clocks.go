package fakegpu

import "fmt"

// clockLaws are about clocks and performance states: a GPU has the highest clock
// of its memory in P0 and a lower one, if it has one, in one other state; the
// clocks of its multiprocessors go up in steps.
var clockLaws = []law{
	with("low_clock_graphics", "low_clock_memory"), with("low_clock_memory", "low_clock_graphics"),
	with("app_clock_graphics", "app_clock_memory"), with("app_clock_memory", "app_clock_graphics"),
	most("low_clock_graphics", "max_clock_graphics"), most("clock_lowest", "max_clock_graphics"), with("clock_lowest", "max_clock_graphics"), with("max_clock_graphics", "clock_lowest"), least("low_clock_graphics", "clock_lowest"),
	most("clock_lowest_video", "max_clock_video"), keep("clock_video", "max_clock_video", lower, most("clock_video", "max_clock_video")), with("clock_video", "max_clock_video"), keep("clock_video", "clock_lowest_video", higher, least("clock_video", "clock_lowest_video")),
	{keys: []string{"max_clock_graphics", "max_clock_sm"}, follow: same("max_clock_graphics", "max_clock_sm"), wrong: differ("max_clock_graphics", "max_clock_sm")},
	{keys: []string{"max_clock_memory", "low_clock_memory"}, wrong: func(g *GPU) string {
		if n := g.Numbers; n["low_clock_memory"] != 0 && n["low_clock_memory"] >= n["max_clock_memory"] {
			return fmt.Sprintf("low_clock_memory is %d, and max_clock_memory of this GPU is %d", n["low_clock_memory"], n["max_clock_memory"])
		}
		return ""
	}},
	{keys: []string{"max_clock_graphics", "low_clock_graphics", "clock_lowest", "clock_half_steps"}, wrong: func(g *GPU) string {
		for _, key := range []string{"max_clock_graphics", "low_clock_graphics"} {
			if mhz := g.Numbers[key]; mhz != 0 && !g.onStep(mhz) {
				return fmt.Sprintf("%s is %d, which is no step of clock_half_steps from clock_lowest; the next is %d", key, mhz, g.step(mhz))
			}
		}
		return ""
	}},
	{keys: []string{"pstate", "clock_memory", "max_clock_memory", "low_clock_memory", "bus_width"}, follow: followState, wrong: wrongState},
	{keys: []string{"clock_graphics", "clock_sm"}, follow: same("clock_graphics", "clock_sm"), wrong: differ("clock_graphics", "clock_sm")},
	{keys: clockKeys("clock_graphics", "clock_memory"), follow: func(c change) {
		for _, key := range []string{"clock_graphics", "clock_sm"} {
			if most := c.highest(c.Numbers["clock_memory"]); c.free("clock_graphics", "clock_sm") && most != 0 {
				c.Numbers[key] = c.step(min(c.Numbers[key], most))
			}
		}
	}, wrong: unsupported("clock_graphics", "clock_memory", true)},
	{keys: clockKeys("app_clock_graphics", "app_clock_memory"), follow: func(c change) {
		n := c.Numbers
		if c.free("app_clock_memory") && n["app_clock_memory"] != 0 && n["app_clock_memory"] == c.before["max_clock_memory"] {
			n["app_clock_memory"] = n["max_clock_memory"]
		}
		if most := c.highest(n["app_clock_memory"]); c.free("app_clock_graphics") && n["app_clock_graphics"] != 0 && most != 0 {
			n["app_clock_graphics"] = c.step(min(n["app_clock_graphics"], most))
		}
	}, wrong: unsupported("app_clock_graphics", "app_clock_memory", false)},
}

func clockKeys(graphics, memory string) []string {
	return []string{graphics, memory, "max_clock_graphics", "max_clock_memory", "low_clock_graphics", "low_clock_memory", "clock_lowest", "clock_half_steps"}
}

// same lets the one follow the other of two clocks that are one.
func same(a, b string) func(change) {
	return func(c change) {
		n := c.Numbers
		switch {
		case c.free(b) && c.became(a):
			n[b] = n[a]
		case c.free(a) && c.became(b):
			n[a] = n[b]
		}
	}
}

func differ(a, b string) func(*GPU) string {
	return func(g *GPU) string {
		if n := g.Numbers; n[a] != n[b] {
			return fmt.Sprintf("%s is %d, and %s is %d: they are one clock", a, n[a], b, n[b])
		}
		return ""
	}
}

// slow is the performance state with the lower clock of the memory: 0 if there
// is none. state.h has the same.
func (g *GPU) slow() uint64 {
	switch {
	case g.Numbers["low_clock_memory"] == 0:
		return 0
	case g.hbm():
		return 2
	}
	return 8
}

// followState lets the state and the clock of the memory follow each other.
func followState(c change) {
	n := c.Numbers
	switch {
	case !c.free("clock_memory"):
		if c.free("pstate") {
			n["pstate"] = 0
			if n["clock_memory"] != 0 && n["clock_memory"] == n["low_clock_memory"] {
				n["pstate"] = c.slow()
			}
		}
	case n["pstate"] == 0:
		n["clock_memory"] = n["max_clock_memory"]
	case n["pstate"] == c.slow():
		n["clock_memory"] = n["low_clock_memory"]
	case c.free("pstate"): // it was one that there is no more
		n["pstate"], n["clock_memory"] = 0, n["max_clock_memory"]
	}
}

func wrongState(g *GPU) string {
	n, want := g.Numbers, g.Numbers["max_clock_memory"]
	states := "0"
	if slow := g.slow(); slow != 0 {
		states = fmt.Sprintf("0 and %d", slow)
		if n["pstate"] == slow {
			want = n["low_clock_memory"]
		}
	}
	if n["pstate"] != 0 && n["pstate"] != g.slow() {
		return fmt.Sprintf("pstate is %d; this GPU has %s", n["pstate"], states)
	}
	if n["clock_memory"] != want {
		return fmt.Sprintf("clock_memory is %d, and in state %d it is %d (the states of this GPU are %s)", n["clock_memory"], n["pstate"], want, states)
	}
	return ""
}

// highest is the highest clock of the multiprocessors with a clock of the memory,
// 0 if that is not supported.
func (g *GPU) highest(memory uint64) uint64 {
	switch n := g.Numbers; memory {
	case n["max_clock_memory"]:
		return n["max_clock_graphics"]
	case n["low_clock_memory"]:
		return n["low_clock_graphics"]
	}
	return 0
}

// step is the supported clock that is nearest to one, as the library lists them.
func (g *GPU) step(mhz uint64) uint64 {
	n := g.Numbers
	lowest, halves := n["clock_lowest"], n["clock_half_steps"]
	if halves == 0 || mhz <= lowest {
		return max(mhz, lowest)
	}
	return (2*lowest + (2*(mhz-lowest)+halves/2)/halves*halves) / 2
}

func (g *GPU) onStep(mhz uint64) bool {
	return g.Numbers["clock_half_steps"] == 0 || g.step(mhz) == mhz
}

func unsupported(graphics, memory string, always bool) func(*GPU) string {
	return func(g *GPU) string {
		n := g.Numbers
		most := g.highest(n[memory])
		switch {
		case n[graphics] == 0 && (!always || n["max_clock_graphics"] == 0):
		case n[memory] != n["max_clock_memory"] && n[memory] != n["low_clock_memory"]:
			return fmt.Sprintf("%s is %d; this GPU supports %s", memory, n[memory], g.memoryClocks())
		case n[graphics] > most:
			return fmt.Sprintf("%s is %d, and with the memory at %d it is %d at most", graphics, n[graphics], n[memory], most)
		case n[graphics] == 0 || !g.onStep(n[graphics]):
			return fmt.Sprintf("%s is %d, which this GPU does not support; the next is %d", graphics, n[graphics], g.step(n[graphics]))
		}
		return ""
	}
}

func (g *GPU) memoryClocks() string {
	if low := g.Numbers["low_clock_memory"]; low != 0 {
		return fmt.Sprintf("%d and %d", g.Numbers["max_clock_memory"], low)
	}
	return fmt.Sprint(g.Numbers["max_clock_memory"])
}
