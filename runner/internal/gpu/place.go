package gpu

import "cmp"

// Closeness says how fast two devices reach each other; more is closer.
type Closeness int

// From afar or unknown, to a link of their own.
const (
	Far        Closeness = iota
	SameNode             // the same NUMA node
	SameSwitch           // no further apart than PCIe switches
	Linked               // NVLink, directly or through NVSwitch
	closest    = Linked
)

// place chooses n of the free devices: those whose least close pair is closest,
// because the slowest link is what all of them wait for; then those that are
// closer in sum; then those with the least memory; then those that leave the
// least closeness behind, so that what stays together can be used together.
//
// It grows a set from each device and takes the best. Where closeness is nested,
// as NUMA nodes, switches and bridged pairs are, the least close pair is the
// best one possible; the rest is so unless the set must cross nodes anyway.
func place(free []*pooled, n int) (chosen []*pooled) {
	switch n {
	case 0:
		return nil
	case len(free):
		return free
	}
	near := make([][]Closeness, len(free))
	for i, a := range free {
		near[i] = make([]Closeness, len(free))
		for j, b := range free {
			near[i][j] = a.Near[b.UUID]
		}
	}
	var best set
	for first := range free {
		s := set{score{least: closest}, free, near, make([]bool, len(free))}
		s.add(first, n-1)
		for more := n - 2; more >= 0; more-- {
			s.add(s.next(more), more)
		}
		if best.in == nil || s.compare(best.score) > 0 {
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

// score rates a set of devices, the most important part first.
type score struct {
	least  Closeness // of all pairs
	sum    int       // of all pairs
	hope   int       // what the devices still to come could add to sum, at most
	memory uint64
	behind int // closeness to the devices outside the set
}

// compare is positive if s is better.
func (s score) compare(other score) int {
	return cmp.Or(
		cmp.Compare(s.least, other.least), cmp.Compare(s.sum+s.hope, other.sum+other.hope),
		cmp.Compare(other.memory, s.memory), cmp.Compare(other.behind, s.behind),
	)
}

// set is a choice of devices that grows.
type set struct {
	score
	free []*pooled
	near [][]Closeness // of the free devices to each other
	in   []bool        // which of them are chosen
}

func (s *set) add(i, more int) { s.score, s.in[i] = s.with(i, more), true }

// next returns the device that makes the best set with those that are in.
func (s *set) next(more int) int {
	best, next := score{}, -1
	for i := range s.free {
		if s.in[i] {
			continue
		}
		if with := s.with(i, more); next < 0 || with.compare(best) > 0 {
			best, next = with, i
		}
	}
	return next
}

// with is the score that the set would have with one more device, before more
// others are added.
func (s *set) with(i, more int) score {
	with := s.score
	with.memory += s.free[i].MemoryBytes
	var outside [closest + 1]int // how many others are that close
	for j, near := range s.near[i] {
		switch {
		case j == i:
		case s.in[j]:
			with.least = min(with.least, near)
			with.sum += int(near)
			with.behind -= int(near)
		default:
			with.behind += int(near)
			outside[near]++
		}
	}
	with.hope = 0
	for near := closest; near > Far; near-- {
		use := min(more, outside[near])
		with.hope += use * int(near)
		more -= use
	}
	return with
}
