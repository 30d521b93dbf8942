package fakegpu

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// law says which values belong together. Where one of them changes, those that
// nobody has set follow, and what contradicts itself then is refused.
type law struct {
	keys   []string // that it is about; processes stands for those
	follow func(c change)
	wrong  func(g *GPU) string // what contradicts what, "" for nothing
}

// change is what a GPU becomes, what it was, and which of its values somebody
// has set.
type change struct {
	*GPU
	before map[string]uint64
	set    map[string]bool
}

const processes = "processes"

// touches tells whether a law has to be looked at.
func (c change) touches(l law) bool {
	return slices.ContainsFunc(l.keys, func(key string) bool { return c.set[key] || c.before[key] != c.Numbers[key] })
}

// free tells whether none of some values was set, so that they may follow.
func (c change) free(keys ...string) bool {
	return !slices.ContainsFunc(keys, func(key string) bool { return c.set[key] })
}

// became tells whether a value was set, or has followed another one.
func (c change) became(key string) bool { return c.set[key] || c.before[key] != c.Numbers[key] }

// agree lets follow what was not set from what was, and refuses what contradicts
// it. What contradicts itself already, and is not touched, stays.
func (c change) agree() error {
	for _, l := range laws {
		if l.follow != nil && c.touches(l) {
			l.follow(c)
		}
	}
	for _, l := range laws {
		if !c.touches(l) {
			continue
		}
		if wrong := l.wrong(c.GPU); wrong != "" {
			return errors.New(wrong)
		}
	}
	return nil
}

// most is a law by which one value is never above another: what a model does not
// have is 0 and limits nothing.
func most(key, limit string) law {
	return law{keys: []string{key, limit}, wrong: func(g *GPU) string {
		if n := g.Numbers; n[limit] != 0 && n[key] > n[limit] {
			return fmt.Sprintf("%s is %d, and %s of this GPU is %d", key, n[key], limit, n[limit])
		}
		return ""
	}}
}

// least is one by which a value that there is is never below another.
func least(key, limit string) law {
	return law{keys: []string{key, limit}, wrong: func(g *GPU) string {
		if n := g.Numbers; n[key] != 0 && n[key] < n[limit] {
			return fmt.Sprintf("%s is %d, and %s of this GPU is %d", key, n[key], limit, n[limit])
		}
		return ""
	}}
}

// with is one by which a value is there where another one is.
func with(key, other string) law {
	return law{keys: []string{key, other}, wrong: func(g *GPU) string {
		if n := g.Numbers; n[key] == 0 && n[other] != 0 {
			return fmt.Sprintf("%s is 0, and %s of this GPU is %d", key, other, n[other])
		}
		return ""
	}}
}

// only is one by which values are there only where a GPU has what they are
// about, which depends on others; they go with it.
func only(what string, has func(map[string]uint64) bool, on string, keys ...string) law {
	return law{
		keys: append(strings.Fields(on), keys...),
		follow: func(c change) {
			for _, key := range keys {
				if c.free(key) && !has(c.Numbers) && c.Numbers[key] != 0 {
					c.Numbers[key] = 0
				}
			}
		},
		wrong: func(g *GPU) string {
			for _, key := range keys {
				if g.Numbers[key] != 0 && !has(g.Numbers) {
					return fmt.Sprintf("%s is %d, and this GPU has no %s", key, g.Numbers[key], what)
				}
			}
			return ""
		},
	}
}

// keep is one that lets a value follow another one up or down to it.
func keep(key, limit string, follow func(value, limit uint64) uint64, l law) law {
	l.follow = func(c change) {
		if n := c.Numbers; c.free(key) && n[limit] != 0 {
			n[key] = follow(n[key], n[limit])
		}
	}
	return l
}

func lower(value, limit uint64) uint64  { return min(value, limit) }
func higher(value, limit uint64) uint64 { return max(value, limit) }

// memoryOf is the memory of some processes; it stays at the largest number, which
// no GPU has.
func memoryOf(processes []Process) (bytes uint64) {
	for _, p := range processes {
		bytes += min(p.Memory, math.MaxUint64-bytes)
	}
	return bytes
}

// workOf is what some processes have of the multiprocessors, in percent.
func workOf(processes []Process) (percent uint64) {
	for _, p := range processes {
		percent += min(p.SM, math.MaxUint64-percent)
	}
	return percent
}

// changed begins a change of a GPU.
func (g *GPU) changed() change {
	return change{GPU: g, before: maps.Clone(g.Numbers), set: make(map[string]bool)}
}

// apart refuses values that tell GPUs from each other, and where they are, if two
// have the same or are on one PCIe switch at two NUMA nodes.
func (m *Machine) apart(set map[string]bool) error {
	for i, g := range m.GPUs {
		for j, other := range m.GPUs[:i] {
			for _, key := range []string{"bus", "minor"} {
				if set[key] && g.Numbers[key] == other.Numbers[key] {
					return fmt.Errorf("%s is %d for the GPUs %d and %d", key, g.Numbers[key], j, i)
				}
			}
			if set["serial"] && g.Serial == other.Serial && g.Serial != "" {
				return fmt.Errorf("serial is %s for the GPUs %d and %d", g.Serial, j, i)
			}
			a, b := g.Numbers, other.Numbers
			if (set["pcie_switch"] || set["numa"]) && a["pcie_switch"] != 0 && a["pcie_switch"] == b["pcie_switch"] && a["numa"] != b["numa"] {
				return fmt.Errorf("the GPUs %d and %d are on the PCIe switch %d, and numa is %d and %d", j, i, a["pcie_switch"], b["numa"], a["numa"])
			}
		}
	}
	return nil
}
