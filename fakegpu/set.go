package fakegpu

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// setAll sets values of GPUs after something else has begun to change each.
func (m *Machine) setAll(gpu string, values []string, begin func(*GPU, change)) error {
	set := make(map[string]bool)
	err := m.each(gpu, func(g *GPU) error {
		c := change{g, maps.Clone(g.Numbers), set}
		begin(g, c)
		for _, v := range values {
			key, value, ok := strings.Cut(v, "=")
			if !ok {
				return fmt.Errorf("value is %q, must be KEY=VALUE", v)
			}
			if err := g.set(key, value); err != nil {
				return err
			}
			set[key] = true
			if slices.Contains(counters, key) && g.Numbers["since"] != 0 {
				g.Numbers["counted_from"] = uint64(time.Now().UnixMicro())
			}
		}
		return c.agree()
	})
	if err != nil {
		return err
	}
	return m.apart(set)
}

// set takes a value as people write it.
func (g *GPU) set(key, value string) error {
	for _, t := range g.texts() {
		if t.key == key {
			*t.value = value
			return nil
		}
	}
	n, ok := ParseNumber(value)
	if !ok {
		return fmt.Errorf("%s is %.120q, must be a whole number, as 85, 0x10DE or 10Gi", key, value)
	}
	largest, ok := largestOf(key)
	if !ok {
		return unknownKey(key)
	}
	var c checker
	c.number(key, n, largest)
	g.Numbers[key] = n
	return c.err
}

// ParseNumber reads a whole number as people write it: decimal (also 010),
// hexadecimal (0x10DE), or with a unit (10Gi).
func ParseNumber(text string) (n uint64, ok bool) {
	if digits, hex := strings.CutPrefix(strings.ToLower(text), "0x"); hex {
		n, err := strconv.ParseUint(digits, 16, 64)
		return n, err == nil
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		return n, true
	}
	q, err := resource.ParseQuantity(text)
	whole, exact := q.AsInt64()
	return uint64(whole), err == nil && exact && whole >= 0
}

// SetProcesses says which processes use a GPU from now on: those, and no
// others. It changes values as well, as Set does.
func SetProcesses(dir, gpu string, using []Process, values ...string) error {
	return update(dir, "change fake GPUs", func(m *Machine) error {
		for i, p := range using {
			var c checker
			if c.number("sm", p.SM, full); c.err != nil {
				return c.err
			}
			if slices.ContainsFunc(using[:i], func(q Process) bool { return p.PID == q.PID && p.Type == q.Type }) {
				return fmt.Errorf("%s process %d is there twice", p.Type, p.PID)
			}
		}
		return m.setAll(gpu, values, func(g *GPU, c change) { g.run(using); c.set[processes] = true })
	})
}

// run lets other processes use a GPU: what those before had of it is free.
func (g *GPU) run(using []Process) {
	n := g.Numbers
	n["memory_used"] -= min(n["memory_used"], memoryOf(g.Processes))
	n["utilization_gpu"] -= min(n["utilization_gpu"], workOf(g.Processes))
	g.Processes = slices.Clone(using)
	n["memory_used"] += min(memoryOf(using), math.MaxUint64-n["memory_used"])
	n["utilization_gpu"] += min(workOf(using), full-min(full, n["utilization_gpu"]))
}
