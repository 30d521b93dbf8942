package gpu

import "slices"

// Closeness says how fast two devices reach each other; more is closer.
type Closeness int

// From afar or unknown, to a link of their own.
const (
	Far        Closeness = iota
	SameNode             // the same NUMA node
	SameSwitch           // no further apart than PCIe switches
	Linked               // NVLink, directly or through NVSwitch
)

// apart is what a pair of devices costs. One pair that is farther apart outweighs
// all pairs of less, because the slowest link is what all devices wait for.
var apart = [...]int{Far: 1 << 32, SameNode: 1 << 16, SameSwitch: 1, Linked: 0}

// cost is what a choice of devices costs, the most important part first: how far
// apart they are; their memory; and how close they are to all that are free, so that
// what stays together can be used together.
type cost [3]int

// place chooses n of the free devices. It grows a set from each device and takes
// the best. Where closeness is nested, as NUMA nodes, switches and bridged pairs
// are, there is no better one unless it must cross nodes.
func place(free []*pooled, n int) (chosen []*pooled) {
	if n == 0 || n == len(free) {
		return free[:n]
	}
	near, alone := make([][]Closeness, len(free)), make([]cost, len(free))
	for i, a := range free {
		alone[i][1] = int(a.MemoryBytes)
		for _, b := range free {
			near[i] = append(near[i], a.Near[b.UUID])
			alone[i][2] += int(a.Near[b.UUID])
		}
	}
	var best set
	for first := range free {
		s := set{near: near, alone: alone, in: make([]bool, len(free))}
		s.add(first)
		for more := n - 2; more >= 0; more-- {
			s.add(s.next(more))
		}
		if best.in == nil || slices.Compare(s.cost[:], best.cost[:]) < 0 {
			best = s
		}
	}
	for i, d := range free {
		if best.in[i] {
			chosen = append(chosen, d)
		}
	}
	return chosen
}

// set is a choice of devices that grows.
type set struct {
	cost
	near  [][]Closeness // of the free devices to each other
	alone []cost        // of each of them
	in    []bool        // which of them are chosen
}

func (s *set) add(i int) {
	s.cost = s.with(i, 0)
	s.in[i] = true
}

// next returns the device with which the set costs least once it has that many more.
func (s *set) next(more int) (next int) {
	next = -1
	var least cost
	for i, in := range s.in {
		if in {
			continue
		}
		if c := s.with(i, more); next < 0 || slices.Compare(c[:], least[:]) < 0 {
			least, next = c, i
		}
	}
	return next
}

// with is what the set costs with one more device, and with that many more behind it,
// those that are nearest to it.
func (s *set) with(i, more int) cost {
	c := s.alone[i]
	for part := range c {
		c[part] += s.cost[part]
	}
	var others [len(apart)]int // outside of the set, by how near they are
	for j, near := range s.near[i] {
		if s.in[j] {
			c[0] += apart[near]
		} else if j != i {
			others[near]++
		}
	}
	for near := Linked; near >= Far; near-- {
		use := min(more, others[near])
		c[0] += use * apart[near]
		more -= use
	}
	return c
}
