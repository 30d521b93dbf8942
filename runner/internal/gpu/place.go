package gpu

import (
	"cmp"
	"slices"
)

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
func place(free []*pooled, n int) []*pooled {
	switch n {
	case 0:
		return nil
	case len(free):
		return free
	}
	near := make([][]Closeness, len(free))
	apart := make([]candidate, len(free))
	for i, a := range free {
		near[i] = make([]Closeness, len(free))
		apart[i].least = closest
		for j, b := range free {
			near[i][j] = a.Near[b.UUID]
			if i != j {
				apart[i].outside[near[i][j]]++
			}
		}
	}
	var best set
	for first := range free {
		s := set{score{least: closest}, slices.Clone(apart)}
		s.add(first, free, near, n-1)
		for more := n - 2; more >= 0; more-- {
			s.add(s.next(free, more), free, near, more)
		}
		if best.candidates == nil || s.compare(best.score) > 0 {
			best = s
		}
	}
	var chosen []*pooled
	for i, d := range free {
		if best.candidates[i].in {
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
	candidates []candidate // by place in the list of free devices
}

// candidate is what a device is to a set.
type candidate struct {
	in      bool
	least   Closeness        // to the devices in the set
	sum     int              // to the devices in the set
	outside [closest + 1]int // how many others outside the set are that close
}

// next returns the device that makes the best set with those that are in.
func (s *set) next(free []*pooled, more int) int {
	best, next := score{}, -1
	for i, c := range s.candidates {
		if c.in {
			continue
		}
		if with := s.with(c, free[i], more); next < 0 || with.compare(best) > 0 {
			best, next = with, i
		}
	}
	return next
}

// with is the score that the set would have with one more device, before more
// others are added.
func (s *set) with(c candidate, d *pooled, more int) score {
	with := s.score
	with.least = min(with.least, c.least)
	with.sum += c.sum
	with.memory += d.MemoryBytes
	with.behind -= c.sum
	with.hope = 0
	for near := closest; near > Far; near-- {
		with.behind += c.outside[near] * int(near)
		use := min(more, c.outside[near])
		with.hope += use * int(near)
		more -= use
	}
	return with
}

func (s *set) add(i int, free []*pooled, near [][]Closeness, more int) {
	s.score = s.with(s.candidates[i], free[i], more)
	s.candidates[i].in = true
	for j, c := range near[i] {
		if j != i {
			s.candidates[j].least = min(s.candidates[j].least, c)
			s.candidates[j].sum += int(c)
			s.candidates[j].outside[c]--
		}
	}
}
