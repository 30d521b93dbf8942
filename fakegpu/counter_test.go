package fakegpu_test

import (
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// TestCountersGrowByTheLoad reads them twice, and once more after a change that
// has to settle them.
func TestCountersGrowByTheLoad(t *testing.T) {
	lib, dir, _ := open(t, fakegpu.Spec{Profile: "H100-80GB", Count: 1})
	device, _ := lib.DeviceGetHandleByIndex(0)
	energy := func() uint64 { mJ, _ := device.GetTotalEnergyConsumption(); return mJ }
	capped := func() uint64 { v, _ := device.GetViolationStatus(nvml.PERF_POLICY_POWER); return v.ViolationTime }
	check(t, fakegpu.Set(dir, "0", "energy=5"))
	until(t, "it is set", func() bool { return energy() == 5 })
	start := time.Now()
	check(t, fakegpu.SetLoad(dir, "0", 100))
	until(t, "300 mJ are used", func() bool { return energy() > 300 }) // at 700 W
	until(t, "its power has slowed it down", func() bool { return capped() > 1e6 })
	check(t, fakegpu.Idle(dir, "0"))
	until(t, "it is seen to rest", func() bool { load, _ := device.GetUtilizationRates(); return load.Gpu == 0 })
	mJ, ns := energy(), capped()
	took := time.Since(start) + 60*time.Millisecond // it is counted a little ahead
	most := uint64(took.Milliseconds()) * 700
	if mJ > most || ns > uint64(took) {
		t.Errorf("after %v the energy is %d mJ and it was slowed down for %d ns, want less than %d", time.Since(start), mJ, ns, most)
	}
	before, held := energy(), capped()
	until(t, "it takes the power of a GPU at rest", func() bool { return energy() > before+5 })
	if capped() != held {
		t.Errorf("at rest it was slowed down for %d ns more", capped()-held)
	}
	check(t, fakegpu.Set(dir, "0", "energy=7"))
	until(t, "it is set", func() bool { return energy() < before })
}

// readings are the counters of a GPU at a time, as counter.c tells them.
func readings(g fakegpu.GPU, now time.Time) [3]uint64 {
	n := g.Numbers
	passed := float64(max(0, now.UnixMicro()-int64(n["since"])))
	all := [3]uint64{n["energy"] + uint64(passed*float64(n["power"])/1e6), n["violation_power"], n["violation_thermal"]}
	for i, reasons := range []uint64{0x4, 0x60} {
		if n["clock_reasons"]&reasons != 0 {
			all[i+1] += uint64(passed * 1e3)
		}
	}
	return all
}

// TestCountersGoOnAcrossChanges for whoever reads, though each change is seen
// only some time after it was counted, and a GPU takes less from one moment to
// the next. The clock is the test's.
func TestCountersGoOnAcrossChanges(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	random := rand.New(rand.NewPCG(1, 2))
	upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	g := fakegpu.GPU{Numbers: map[string]uint64{"since": uint64(now.UnixMicro())}}
	for i := range 1000 {
		next := fakegpu.Settle(g, now)
		next.Numbers["power"] = random.Uint64N(700_000)
		next.Numbers["clock_reasons"] = random.Uint64N(0x80)
		seen := now.Add(upTo(50 * time.Millisecond))
		before, after := readings(g, seen), readings(next, seen)
		for c := range before {
			if after[c] < before[c] {
				t.Fatalf("change %d is seen after %v, and a counter goes from %d back to %d", i, seen.Sub(now), before[c], after[c])
			}
		}
		g, now = next, seen.Add(upTo(100*time.Millisecond))
	}
	g.Numbers["energy"], g.Numbers["power"] = math.MaxUint64-5, 700_000
	if mJ := fakegpu.Settle(g, now.Add(time.Hour)).Numbers["energy"]; mJ != math.MaxUint64 {
		t.Errorf("the energy wraps around to %d mJ", mJ)
	}
}

// TestCountersOfALateWriter: it has counted them for a moment that was long ago
// when its change was seen, so that a program has seen more. What somebody sets
// holds all the same.
func TestCountersOfALateWriter(t *testing.T) {
	lib, dir, _ := open(t, fakegpu.Spec{Profile: "H100-80GB", Count: 2})
	device, _ := lib.DeviceGetHandleByIndex(1)
	counters := func() (all [3]uint64) {
		all[0], _ = device.GetTotalEnergyConsumption()
		for i, policy := range []nvml.PerfPolicyType{nvml.PERF_POLICY_POWER, nvml.PERF_POLICY_THERMAL} {
			v, _ := device.GetViolationStatus(policy)
			all[i+1] = v.ViolationTime
		}
		return all
	}
	check(t, fakegpu.SetLoad(dir, "1", 100))
	check(t, fakegpu.Set(dir, "1", "temperature=94")) // it is hot
	m, err := fakegpu.Load(dir)
	check(t, err)
	g := &m.GPUs[1]
	begun := time.Now().Add(-10 * time.Second)
	g.Numbers["since"] = uint64(begun.UnixMicro())
	put(t, dir, fakegpu.Format(m))
	until(t, "ten seconds were counted", func() bool { all := counters(); return all[0] > 6_000_000 && all[1] > 9e9 && all[2] > 9e9 })
	before := counters()

	*g = fakegpu.Settle(*g, begun.Add(time.Second))
	g.Numbers["power"], g.Numbers["clock_reasons"] = 1, 0
	put(t, dir, fakegpu.Format(m))
	until(t, "the change is seen", func() bool { mW, _ := device.GetPowerUsage(); return mW == 1 })
	for i, n := range counters() {
		if n < before[i] {
			t.Errorf("a counter goes from %d back to %d", before[i], n)
		}
	}
	check(t, fakegpu.Set(dir, "1", "energy=5", "violation_power=6", "violation_thermal=7"))
	until(t, "what was set is seen", func() bool { return counters() == [3]uint64{5, 6, 7} })
	machine(t, dir, fakegpu.Spec{Profile: "H100-80GB", Count: 2})
	until(t, "new GPUs have used nothing", func() bool { return counters() == [3]uint64{} })
}

// TestASetterCountsAsTheCommandsDo, up to the same moment.
func TestASetterCountsAsTheCommandsDo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may")
	}
	lib, dir, _ := open(t, fakegpu.Spec{Profile: "H100-80GB", Count: 1})
	device, _ := lib.DeviceGetHandleByIndex(0)
	check(t, fakegpu.SetLoad(dir, "0", 100))
	before := stateOf(t, dir)
	from := time.Now()
	if r := device.SetPowerManagementLimit(200_000); r != nvml.SUCCESS {
		t.Fatalf("setting the limit gives %v", r)
	}
	after := stateOf(t, dir)
	at := time.UnixMicro(int64(after.Numbers["since"]))
	if ahead := at.Sub(from); ahead < 50*time.Millisecond || at.After(time.Now().Add(50*time.Millisecond)) {
		t.Errorf("the counters are settled %v ahead, want 50 ms", ahead)
	}
	if got, want := readings(after, at), readings(before, at); got != want {
		t.Errorf("the counters are %v, want %v", got, want)
	}
}
