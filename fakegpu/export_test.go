package fakegpu

import (
	"cmp"
	"time"
)

// Format is the text of a state.
func Format(m Machine) []byte { return m.format() }

// Settle counts what a GPU has done until a change at a time is seen.
func Settle(g GPU, now time.Time) GPU {
	m := Machine{GPUs: []GPU{g.clone()}}
	m.settle(now)
	return m.GPUs[0]
}

// Describe reads a profile that is not one of profiles/.
func Describe(profile string) (GPU, error) {
	g := GPU{Numbers: make(map[string]uint64)}
	return g, g.describe([]byte(profile))
}

// Try sets values of a copy of a GPU.
func Try(g GPU, values ...string) (GPU, error) {
	m := Machine{GPUs: []GPU{g.clone()}}
	err := m.setAll("0", values, func(*GPU, change) {})
	var c checker
	for key, n := range m.GPUs[0].Numbers {
		largest, _ := largestOf(key)
		c.number(key, n, largest)
	}
	return m.GPUs[0], cmp.Or(err, c.err)
}

// TryProfile makes a GPU of the text of a profile.
func TryProfile(profile string) (GPU, error) {
	g, err := Describe(profile)
	if err == nil {
		err = g.Complete()
	}
	return g, err
}

// Work and Rest are load and idle, of a copy of a GPU.
func Work(g GPU, percent uint64) (GPU, error) {
	g = g.clone()
	c := g.changed()
	g.work(percent)
	return g, c.agree()
}

func Rest(g GPU) (GPU, error) {
	g = g.clone()
	c := g.changed()
	g.idle()
	return g, c.agree()
}

// LawKeys are the keys of each law.
func LawKeys() (all [][]string) {
	for _, l := range laws {
		all = append(all, l.keys)
	}
	return all
}

// Complete adds what a profile leaves out.
func (g *GPU) Complete(free ...string) error { return g.complete(free...) }
