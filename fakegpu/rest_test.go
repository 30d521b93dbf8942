package fakegpu_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// restOf picks what a GPU does from what it is.
func restOf(g fakegpu.GPU) map[string]uint64 {
	rest := make(map[string]uint64)
	for _, key := range []string{
		"memory_reserved", "bar1_used", "temperature", "temperature_memory", "fan_speed", "power", "pstate", "clock_reasons",
		"clock_graphics", "clock_sm", "clock_memory", "clock_video", "pcie_gen", "pcie_width", "persistence",
	} {
		rest[key] = g.Numbers[key]
	}
	return rest
}

func TestNewGPUsAreAtRest(t *testing.T) {
	for _, profile := range fakegpu.Profiles() {
		t.Run(profile, func(t *testing.T) {
			dir := t.TempDir()
			g := machine(t, dir, fakegpu.Spec{Profile: profile, Count: 1})[0]
			want := map[string]uint64{
				"memory_reserved": 512 << 20, "bar1_used": 1 << 20, "temperature": 30, "temperature_memory": 0, "fan_speed": 0,
				"power": g.Numbers["power_default"] / 10, "pstate": 8, "clock_reasons": 1,
				"clock_graphics": 210, "clock_sm": 210, "clock_memory": 210, "clock_video": 210,
				"pcie_gen": 1, "pcie_width": 16, "persistence": 1,
			}
			if g.Numbers["bus_width"] >= 1024 { // HBM
				want["temperature_memory"] = 30
			}
			if diff := cmp.Diff(want, restOf(g)); diff != "" {
				t.Errorf("a new GPU (-want +got):\n%s", diff)
			}
			within(t, "power", g.Numbers["power"], 1000, g.Numbers["power_min"])
			for _, clock := range []string{"clock_graphics", "clock_sm", "clock_memory", "clock_video"} {
				within(t, clock, g.Numbers[clock], 1, g.Numbers["max_"+clock])
			}
			within(t, "temperature", g.Numbers["temperature"], 1, g.Numbers["temperature_max"]-1)

			want["temperature"], want["memory_reserved"] = 85, 1<<30
			check(t, fakegpu.Set(dir, "0", "temperature=85", "memory_reserved=1Gi"))
			m, err := fakegpu.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, restOf(m.GPUs[0])); diff != "" {
				t.Errorf("the GPU after Set (-want +got):\n%s", diff)
			}
		})
	}
}

func TestProfileRefusesWhatGPUsDo(t *testing.T) {
	for key := range restOf(fakegpu.GPU{}) {
		_, err := fakegpu.Describe("name: x\n" + key + ": 1\n")
		refused(t, err, key+" is no figure of a model")
	}
}
