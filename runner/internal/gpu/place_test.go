package gpu_test

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
)

// topology makes count GPUs with what is between each two of them.
func topology(count int, between func(a, b int) gpu.Closeness) []gpu.Device {
	devices := make([]gpu.Device, count)
	for i := range devices {
		devices[i] = gpu.Device{
			GPU:  api.GPU{UUID: fmt.Sprintf("GPU-%02d", i), Index: i, MemoryBytes: 80 * gib},
			Near: make(map[string]gpu.Closeness),
		}
		for j := range count {
			devices[i].Near[fmt.Sprintf("GPU-%02d", j)] = between(i, j)
		}
	}
	return devices
}

// grouped is nested: GPUs that share a group of linked, switched or node size.
func grouped(linked, switched, node int) func(a, b int) gpu.Closeness {
	return func(a, b int) gpu.Closeness {
		switch {
		case a/linked == b/linked:
			return gpu.Linked
		case a/switched == b/switched:
			return gpu.SameSwitch
		case a/node == b/node:
			return gpu.SameNode
		}
		return gpu.Far
	}
}

var topologies = map[string][]gpu.Device{
	"nothing known":   topology(8, grouped(1, 1, 1)),
	"one node":        topology(8, grouped(1, 1, 8)),
	"two nodes":       topology(8, grouped(1, 1, 4)),
	"PCIe":            topology(8, grouped(1, 2, 4)),
	"NVLink bridges":  topology(8, grouped(2, 2, 4)),
	"bridges, no PLX": topology(8, grouped(2, 2, 8)),
	"HGX":             topology(8, grouped(8, 8, 8)),
	"two boards":      topology(8, grouped(4, 4, 8)),
	"four nodes":      topology(8, grouped(1, 1, 2)),
}

func TestPlaceOnAMachineWithTwoNodes(t *testing.T) {
	machine := topologies["PCIe"] // switches 01 23 45 67, nodes 0123 4567
	for _, test := range []struct {
		free []int
		n    int
		want []int
	}{
		{[]int{0, 1, 2, 3, 4, 5, 6, 7}, 2, []int{0, 1}},
		{[]int{0, 1, 2, 3, 4, 5, 6, 7}, 4, []int{0, 1, 2, 3}},
		{[]int{1, 2, 3, 4, 5, 6, 7}, 1, []int{1}},          // the one whose switch is in use
		{[]int{1, 2, 3, 4, 5, 6, 7}, 2, []int{2, 3}},       // the node that is in use
		{[]int{1, 2, 3, 4, 5, 6, 7}, 4, []int{4, 5, 6, 7}}, // one node before two
		{[]int{0, 2, 5, 7}, 2, []int{0, 2}},
		{[]int{0, 5, 7}, 2, []int{5, 7}},
		{[]int{0, 2, 3, 4}, 3, []int{0, 2, 3}},
		{[]int{0, 1, 4, 5, 6}, 4, []int{0, 1, 4, 5}}, // two switches, so that none is broken up
		{[]int{0, 4}, 2, []int{0, 4}},
		{[]int{0, 4}, 0, nil},
	} {
		var free []gpu.Device
		for _, i := range test.free {
			free = append(free, machine[i])
		}
		var got []int
		for _, d := range gpu.Place(free, test.n) {
			got = append(got, d.Index)
		}
		if !cmp.Equal(got, test.want) {
			t.Errorf("%d of %v: %v, want %v", test.n, test.free, got, test.want)
		}
	}
}

// rate is how good a choice is, the most important part first; less is worse.
func rate(free, chosen []gpu.Device) []int {
	least, sum, behind := gpu.Linked, 0, 0
	for i, a := range chosen {
		for _, b := range chosen[:i] {
			least = min(least, a.Near[b.UUID])
			sum += int(a.Near[b.UUID])
		}
		for _, b := range free {
			if !slices.ContainsFunc(chosen, func(c gpu.Device) bool { return c.UUID == b.UUID }) {
				behind -= int(a.Near[b.UUID])
			}
		}
	}
	return []int{int(least), sum, behind}
}

// No other choice is better, whatever is free.
func TestPlaceIsExactForNestedTopologies(t *testing.T) {
	for name, machine := range topologies {
		for mask := range 1 << len(machine) {
			var free []gpu.Device
			for i, d := range machine {
				if mask>>i&1 == 1 {
					free = append(free, d)
				}
			}
			for n := 1; n <= len(free); n++ {
				got := rate(free, gpu.Place(free, n))
				for choice := range 1 << len(free) {
					if bits.OnesCount(uint(choice)) != n {
						continue
					}
					better := rate(free, pick(free, choice))
					if got[0] == int(gpu.Far) {
						better = better[:1] // over several nodes only that is promised
					}
					if slices.Compare(better, got) > 0 {
						t.Errorf("%s: %d of %b: got %v, %b has %v", name, n, mask, got, choice, better)
						break
					}
				}
			}
		}
	}
}

// What is closest must not be slowed down by one pair that is far, and among
// equal choices the first in NVML's order is taken.
func TestPlaceLooksAtTheLeastClosePair(t *testing.T) {
	chain := func(a, b int) gpu.Closeness {
		switch {
		case a > 2 && b > 2:
			return gpu.SameNode
		case a <= 2 && b <= 2 && a+b != 2: // 0-1 and 1-2, and 0 is far from 2
			return gpu.Linked
		}
		return gpu.Far
	}
	if got, want := indices(gpu.Place(topology(6, chain), 3)), []int{3, 4, 5}; !cmp.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := indices(gpu.Place(topologies["nothing known"], 3)), []int{0, 1, 2}; !cmp.Equal(got, want) {
		t.Errorf("of equal ones %v, want %v", got, want)
	}
}

// Where closeness is in no order at all, the choice is the best one nearly
// always. The numbers are of these 3000 machines.
func TestPlaceIsGoodForAnyTopology(t *testing.T) {
	var exact [3]int // in the first parts of the rating
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 9))
		n := 4 + r.IntN(4)
		near := make(map[[2]int]gpu.Closeness)
		for i := range n {
			for j := range i {
				near[[2]int{i, j}] = gpu.Closeness(r.IntN(4))
				near[[2]int{j, i}] = near[[2]int{i, j}]
			}
		}
		free := topology(n, func(a, b int) gpu.Closeness { return near[[2]int{a, b}] })
		size := 2 + r.IntN(n-2)
		got := rate(free, gpu.Place(free, size))
		best := got
		for choice := range 1 << n {
			if bits.OnesCount(uint(choice)) == size {
				best = slices.MaxFunc([][]int{best, rate(free, pick(free, choice))}, slices.Compare)
			}
		}
		for parts := range exact {
			if slices.Equal(got[:parts+1], best[:parts+1]) {
				exact[parts]++
			}
		}
	}
	for parts, least := range []int{2995, 2990, 2980} {
		if exact[parts] < least {
			t.Errorf("the first %d parts of the rating are the best possible on %d machines, want %d", parts+1, exact[parts], least)
		}
	}
}

// pick returns the devices whose bits are set.
func pick(devices []gpu.Device, choice int) (chosen []gpu.Device) {
	for i, d := range devices {
		if choice>>i&1 == 1 {
			chosen = append(chosen, d)
		}
	}
	return chosen
}

func BenchmarkReserve(b *testing.B) {
	machine := topology(64, grouped(2, 4, 16))
	for _, n := range []int{1, 8, 32, 63} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			pool := gpu.NewPool(machine)
			for b.Loop() {
				uuids, ok := pool.Reserve("a", api.Resources{GPUs: n}, nil)
				if !ok {
					b.Fatal("not free")
				}
				pool.Free(uuids)
			}
		})
	}
}
