package fakegpu

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// check returns what is wrong with a machine, in the words of the file.
func (m Machine) check() error {
	var c checker
	c.text("driver", m.Driver)
	c.text("nvml", m.NVML)
	c.number("cuda", m.CUDA, maxCUDA)
	c.number("init", m.Init, maxReturn)
	c.faults(m.Faults)
	c.count("GPUs", len(m.GPUs), MaxGPUs)
	seen := make(map[string]bool)
	for i, g := range m.GPUs {
		c.where = fmt.Sprintf("GPU %d: ", i)
		c.text("uuid", g.UUID)
		c.text("name", g.Name)
		if seen[g.UUID] {
			c.bad("UUID %s is that of another GPU", g.UUID)
		}
		seen[g.UUID] = true
		for _, t := range g.texts() {
			if *t.value != "" {
				c.text(t.key, *t.value)
			}
		}
		for name, n := range g.Numbers {
			largest, ok := largestOf(name)
			if !ok {
				c.bad("%w", unknownKey(name))
				continue
			}
			c.number(name, n, largest)
		}
		c.count("processes", len(g.Processes), maxProcesses)
		memory, used := g.Numbers["memory"], g.Numbers["memory_used"]
		if used > memory || g.Numbers["memory_reserved"] > memory-used {
			c.bad("memory_used and memory_reserved are more than the memory of %d bytes", memory)
		}
		if g.Numbers["bar1_used"] > g.Numbers["bar1"] {
			c.bad("bar1_used is more than the bar1 of %d bytes", g.Numbers["bar1"])
		}
		c.faults(g.Faults)
		for _, p := range g.Processes {
			c.number("pid", p.PID, math.MaxInt32)
			c.number("sm", p.SM, 100)
			c.text("process name", p.Name)
			if !slices.Contains([]string{"compute", "graphics", "mps"}, p.Type) {
				c.bad("type of process is %q, must be compute, graphics or mps", p.Type)
			}
		}
		c.count("MIG devices", len(g.MIGs), maxMIGs)
		if len(g.MIGs) > 0 && g.Numbers["mig_mode"] == 0 {
			c.bad("MIG devices without mig_mode 1")
		}
		for _, d := range g.MIGs {
			c.word("uuid of MIG device", d.UUID)
			for _, n := range []uint64{d.GI, d.CI, d.Profile} {
				c.number("id of instance or profile", n, 255)
			}
			for _, n := range []uint64{d.Slices, d.ComputeSlices, d.Start} {
				c.number("slices or start", n, 7)
			}
			c.number("sms", d.SMs, small)
		}
	}
	return c.err
}

// checker keeps the first thing that is wrong.
type checker struct {
	where string
	err   error
}

func (c *checker) bad(format string, values ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(c.where+format, values...)
	}
}

func (c *checker) text(what, value string) {
	if value == "" || len(value) > maxText || strings.ContainsAny(value, "\n\x00") {
		c.bad("%s is %.120q, must be 1 to %d bytes in one line", what, value, maxText)
	}
}

func (c *checker) word(what, value string) {
	c.text(what, value)
	if strings.Contains(value, " ") {
		c.bad("%s is %q; must be one word", what, value)
	}
}

func (c *checker) number(what string, n, largest uint64) {
	if n > largest {
		c.bad("%s is %d, must be 0 to %d", what, n, largest)
	}
}

func (c *checker) count(what string, n, most int) {
	if n > most {
		c.bad("%d %s, must be 0 to %d", n, what, most)
	}
}

func (c *checker) faults(faults []Fault) {
	c.count("faults", len(faults), maxFaults)
	for _, f := range faults {
		c.word("function", f.Function)
		c.number("code", f.Code, maxReturn)
		c.number("hang", f.HangMS, maxHangMS)
	}
}
