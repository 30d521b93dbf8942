package fakegpu_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// impossible is what no GPU is like, said once more and more plainly than in the
// code: NVML must never show it.
func impossible(g fakegpu.GPU) (what []string) {
	n := g.Numbers
	is := func(text string, wrong bool) {
		if wrong {
			what = append(what, text)
		}
	}
	has := func(key string) bool { return n[key] > 0 }
	is("takes more power than its limit", has("power_limit") && n["power"] > n["power_limit"])
	is("has a limit outside of its range", has("power_max") && (n["power_limit"] > n["power_max"] || n["power_limit"] < n["power_min"]))
	is("has a default outside of its range", has("power_default") && (has("power_max") && n["power_default"] > n["power_max"] || n["power_default"] < n["power_min"]))
	is("takes no power", has("power_limit") && !has("power"))
	is("is hotter than where it is switched off", has("temperature_shutdown") && n["temperature"] > n["temperature_shutdown"])
	is("is too hot and not slowed down", has("temperature_slowdown") && n["temperature"] >= n["temperature_slowdown"] && n["clock_reasons"]&0x48 != 0x48)
	for _, clock := range []string{"clock_graphics", "clock_sm", "clock_memory", "clock_video"} {
		is(clock+" is above the highest", has("max_"+clock) && n[clock] > n["max_"+clock]) // 0 is that it does not tell
		is(clock+" stands still", has("max_"+clock) && !has(clock))
	}
	if has("max_clock_memory") {
		slow := uint64(8)
		if n["bus_width"] >= 1024 {
			slow = 2
		}
		fast, low := n["clock_memory"] == n["max_clock_memory"], has("low_clock_memory") && n["clock_memory"] == n["low_clock_memory"]
		is("has a clock of the memory that it does not support", !fast && !low)
		is("is in no state of its own", n["pstate"] != 0 && n["pstate"] != slow)
		is("is in P0 with a low clock, or the other way round", (n["pstate"] == 0) != fast)
	}
	if has("max_clock_graphics") && has("clock_half_steps") { // else it does not tell
		var supported []uint64
		for halves := 2 * n["clock_lowest"]; halves/2 <= n["max_clock_graphics"]; halves += n["clock_half_steps"] {
			supported = append(supported, halves/2)
		}
		is("has a graphics clock that it does not support", !slices.Contains(supported, n["clock_graphics"]))
		is("has a highest clock that it does not support", !slices.Contains(supported, n["max_clock_graphics"]))
		is("has an application clock that it does not support", has("app_clock_graphics") && !slices.Contains(supported, n["app_clock_graphics"]))
		is("has two clocks for one", n["clock_graphics"] != n["clock_sm"])
		is("is faster than with that memory", n["pstate"] != 0 && n["clock_graphics"] > n["low_clock_graphics"])
	}
	is("has no link", has("pcie_gen_max") && !has("pcie_gen") || has("pcie_width_max") && !has("pcie_width"))
	is("has a link that is better than it can", has("pcie_gen_max") && n["pcie_gen"] > n["pcie_gen_max"] || has("pcie_width_max") && n["pcie_width"] > n["pcie_width_max"])
	lane := []uint64{0, 250, 500, 985, 1969, 3938, 7563}[n["pcie_gen"]] * 1000 * n["pcie_width"]
	is("sends more than the link carries", n["pcie_tx"] > lane || n["pcie_rx"] > lane)
	work := n["utilization_gpu"] + n["utilization_memory"] + n["utilization_encoder"] + n["utilization_decoder"] + n["utilization_jpeg"] + n["utilization_ofa"]
	is("works and is idle", work > 0 && n["clock_reasons"]&1 != 0)
	is("works without memory", has("utilization_gpu") && !has("memory_used") && n["memory"] > n["memory_reserved"])
	is("turns fans that it has not", has("fan_speed") && !has("fans"))
	for _, kind := range []string{"dram_corrected", "dram_uncorrected", "sram_corrected", "sram_uncorrected"} {
		is("has more "+kind+" errors since the start than ever", n["ecc_"+kind+"_volatile"] > n["ecc_"+kind+"_aggregate"])
		is("counts errors without ECC", !has("ecc") && has("ecc_"+kind+"_aggregate"))
	}
	rows := n["remap_corrected"] + n["remap_uncorrected"]
	pages := n["retired_single"] + n["retired_double"]
	is("waits to remap no row", has("remap_pending") && rows == 0)
	is("waits to retire no page", has("retired_pending") && pages == 0)
	is("remaps and retires", (rows > 0 || has("remap_failed")) && n["architecture"] < 7 || pages > 0 && n["architecture"] >= 7)
	is("is divided and cannot be", has("mig_mode") && !has("mig_max"))
	is("has instances with more than all", n["mig_sms_7g"] > n["sms"] && has("sms") || n["mig_mb_7g"] > n["memory"]>>20)
	return what
}

// around are values of a key, and of those that it is with in a law, that are
// near to where something ends.
func around(g fakegpu.GPU, keys []string) (values []uint64) {
	values = []uint64{0, 1, 2, 8}
	for _, key := range keys {
		n := g.Numbers[key]
		values = append(values, n, n+1, n-min(n, 1), n/2, 2*n)
	}
	slices.Sort(values)
	return slices.Compact(values)
}

// TestNoChangeMakesAnImpossibleGPU sets each key, and each two keys of which a law
// says that they belong together, to all values that are near to a limit, of each
// model: it is refused, or the GPU that it makes is possible.
func TestNoChangeMakesAnImpossibleGPU(t *testing.T) {
	random := rand.New(rand.NewPCG(15, 0))
	taken, refused := 0, 0
	try := func(g fakegpu.GPU, values ...string) {
		changed, err := fakegpu.Try(g, values...)
		if err != nil {
			refused++
			return
		}
		taken++
		if what := impossible(changed); len(what) > 0 {
			t.Errorf("%s with %v %s", g.Name, values, strings.Join(what, ", "))
		}
		for _, value := range values {
			key, want, _ := strings.Cut(value, "=")
			if got := fmt.Sprint(changed.Numbers[key]); got != want {
				t.Errorf("%s with %v has %s %s", g.Name, values, key, got)
			}
		}
	}
	for _, profile := range fakegpu.Profiles() {
		g, err := fakegpu.LoadProfile(profile)
		check(t, err)
		check(t, g.Complete())
		busy, err := fakegpu.Work(g, 100)
		check(t, err)
		for _, g := range []fakegpu.GPU{g, busy} {
			for _, keys := range fakegpu.LawKeys() {
				keys = slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !slices.Contains(fakegpu.Keys(), key) })
				values := around(g, keys)
				for i, key := range keys {
					for _, a := range values {
						try(g, fmt.Sprint(key, "=", a))
						for _, other := range keys[:i] {
							if random.IntN(8) != 0 { // each of them many times, with one model or the other
								continue
							}
							b := values[random.IntN(len(values))]
							try(g, fmt.Sprint(key, "=", a), fmt.Sprint(other, "=", b))
							try(g, fmt.Sprint(other, "=", b), fmt.Sprint(key, "=", a))
						}
					}
				}
			}
		}
	}
	if taken < 3_000 || refused < 3_000 {
		t.Errorf("%d changes are taken and %d refused, want many of both", taken, refused)
	}
}

// TestWhateverHasBeenSetItWorksAndRests: load and idle make a possible GPU of each.
func TestWhateverHasBeenSetItWorksAndRests(t *testing.T) {
	random := rand.New(rand.NewPCG(15, 1)) // the same each time: what it finds is there to be found again
	for _, profile := range fakegpu.Profiles() {
		g, err := fakegpu.LoadProfile(profile)
		check(t, err)
		check(t, g.Complete())
		for range 300 {
			key := fakegpu.Keys()[random.IntN(len(fakegpu.Keys()))]
			values := around(g, []string{key})
			if changed, err := fakegpu.Try(g, fmt.Sprint(key, "=", values[random.IntN(len(values))])); err == nil {
				g = changed
			}
			percent := 1 + random.Uint64N(100)
			for what, make := range map[string]func() (fakegpu.GPU, error){
				"load": func() (fakegpu.GPU, error) { return fakegpu.Work(g, percent) }, "idle": func() (fakegpu.GPU, error) { return fakegpu.Rest(g) },
			} {
				made, err := make()
				if err != nil {
					t.Fatalf("%s of %s fails: %v; it is %v", what, profile, err, g.Numbers)
				}
				if wrong := impossible(made); len(wrong) > 0 {
					t.Fatalf("%s after %s %s; it was %v", profile, what, strings.Join(wrong, ", "), g.Numbers)
				}
			}
		}
	}
}

// TestGPUsStayApart: no two have one place in the machine, and one place has no
// two GPUs that are far from each other.
func TestGPUsStayApart(t *testing.T) {
	dir := t.TempDir()
	machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 4})
	for values, want := range map[string]string{
		"bus=1": "bus is 1 for the GPUs 0 and 1", "minor=2": "minor is 2 for the GPUs 1 and 2", "serial=1320000000000": "serial is 1320000000000 for the GPUs 0 and 1",
		"numa=1": "the GPUs 0 and 1 are on the PCIe switch 1, and numa is 0 and 1",
	} {
		refused(t, fakegpu.Set(dir, "1", values), want)
	}
	check(t, fakegpu.Set(dir, "1", "numa=1", "pcie_switch=9", "bus=77", "minor=7", "serial=5"))
	refused(t, fakegpu.Set(dir, "all", "minor=3"), "minor is 3 for the GPUs 0 and 1")
}
