package fakegpu

import (
	"fmt"
	"slices"
)

// laws are in an order in which what follows from one is there for the next.
var laws = slices.Concat(modelLaws, migLaws, errorLaws, workLaws, clockLaws)

// modelLaws are about what a model is, and what it takes at most.
var modelLaws = []law{
	{keys: []string{"architecture", "cc_major", "cc_minor"}, wrong: wrongCapability},
	{keys: []string{"cores", "sms"}, wrong: func(g *GPU) string {
		if n := g.Numbers; n["sms"] != 0 && n["cores"]%n["sms"] != 0 {
			return fmt.Sprintf("cores are %d, and sms are %d: each has the same number of them", n["cores"], n["sms"])
		}
		return ""
	}},
	most("power_min", "power_max"), most("power_default", "power_max"), most("power_limit", "power_max"), with("power_limit", "power_max"),
	least("power_default", "power_min"), least("power_limit", "power_min"),
	with("power", "power_limit"), keep("power", "power_limit", lower, most("power", "power_limit")),
	most("temperature_max", "temperature_slowdown"), most("temperature_max", "temperature_shutdown"),
	most("temperature_slowdown", "temperature_shutdown"), keep("temperature", "temperature_shutdown", lower, most("temperature", "temperature_shutdown")),
	most("pcie_gen_max", "pcie_gen_device"), keep("pcie_gen", "pcie_gen_max", lower, most("pcie_gen", "pcie_gen_max")), with("pcie_gen", "pcie_gen_max"),
	keep("pcie_width", "pcie_width_max", lower, most("pcie_width", "pcie_width_max")), with("pcie_width", "pcie_width_max"), lanes("pcie_width"), lanes("pcie_width_max"),
	with("nvlink_version", "nvlinks"),
	only("fans", has("fans"), "fans", "fan_speed"),
}

func has(key string) func(map[string]uint64) bool {
	return func(n map[string]uint64) bool { return n[key] != 0 }
}

// capabilities are those of an architecture of nvmlDeviceArchitecture_t, as
// NVIDIA's list of CUDA GPUs has them.
var capabilities = map[uint64][]uint64{2: {30, 35, 37}, 3: {50, 52, 53}, 4: {60, 61, 62}, 5: {70, 72}, 6: {75}, 7: {80, 86, 87}, 8: {89}, 9: {90}}

func wrongCapability(g *GPU) string {
	n := g.Numbers
	known, ok := capabilities[n["architecture"]]
	if !ok || n["cc_major"] == 0 && n["cc_minor"] == 0 || slices.Contains(known, n["cc_major"]*10+n["cc_minor"]) {
		return ""
	}
	return fmt.Sprintf("cc_major and cc_minor are %d.%d, which is no compute capability of architecture %d", n["cc_major"], n["cc_minor"], n["architecture"])
}

// lanes is that of a link: no other numbers of them come together.
func lanes(key string) law {
	return law{keys: []string{key}, wrong: func(g *GPU) string {
		if n := g.Numbers[key]; !slices.Contains([]uint64{0, 1, 2, 4, 8, 12, 16, 32}, n) {
			return fmt.Sprintf("%s is %d; a link has 1, 2, 4, 8, 12, 16 or 32 lanes", key, n)
		}
		return ""
	}}
}

// migLaws are about GPU instances, each of which is a part of the next larger one
// and all of the GPU.
var migLaws = slices.Concat(
	parts("mig_sms_1g", "mig_sms_2g", "mig_sms_3g", "mig_sms_4g", "mig_sms_7g", "sms"), parts("mig_sms_1g", "mig_sms_1g_double", "sms"),
	parts("mig_mb_1g", "mig_mb_2g", "mig_mb_3g", "mig_mb_4g", "mig_mb_7g"), parts("mig_mb_1g", "mig_mb_1g_double", "mig_mb_7g"),
	[]law{
		with("mig_sms_1g", "mig_max"), with("mig_mb_1g", "mig_max"),
		only("instances", has("mig_max"), "mig_max", "mig_mode"),
		{keys: []string{"mig_mb_7g", "memory"}, wrong: func(g *GPU) string {
			if n := g.Numbers; n["mig_mb_7g"] > n["memory"]>>20 {
				return fmt.Sprintf("mig_mb_7g is %d, and the memory of this GPU has %d MiB", n["mig_mb_7g"], n["memory"]>>20)
			}
			return ""
		}},
	},
)

func parts(keys ...string) (all []law) {
	for i, key := range keys[1:] {
		all = append(all, most(keys[i], key))
	}
	return all
}

// errorLaws are about errors of the memory: what there was since the driver was
// loaded is a part of all, and rows that wait to be remapped are some.
var errorLaws = slices.Concat(
	since("ecc_dram_corrected"), since("ecc_dram_uncorrected"), since("ecc_sram_corrected"), since("ecc_sram_uncorrected"),
	[]law{
		pending("remap_pending", "remap_uncorrected", "remap_corrected"), pending("retired_pending", "retired_double", "retired_single"),
		only("rows to remap", func(n map[string]uint64) bool { return n["ecc"] != 0 && n["architecture"] >= ampere }, "ecc architecture",
			"remap_corrected", "remap_uncorrected", "remap_pending", "remap_failed"),
		only("pages to retire", func(n map[string]uint64) bool { return n["ecc"] != 0 && n["architecture"] < ampere }, "ecc architecture",
			"retired_single", "retired_double", "retired_pending"),
	},
)

func since(kind string) []law {
	fresh, all := kind+"_volatile", kind+"_aggregate"
	return []law{
		only("ECC memory", has("ecc"), "ecc", fresh, all),
		{
			keys: []string{fresh, all},
			follow: func(c change) {
				if c.free(all) {
					c.Numbers[all] = max(c.Numbers[all], c.Numbers[fresh])
				}
			},
			wrong: func(g *GPU) string {
				if n := g.Numbers; n[fresh] > n[all] {
					return fmt.Sprintf("%s is %d, and %s, of which they are a part, is %d", fresh, n[fresh], all, n[all])
				}
				return ""
			},
		},
	}
}

func pending(waits, usual, other string) law {
	return law{
		keys: []string{waits, usual, other},
		follow: func(c change) {
			if n := c.Numbers; c.free(usual, other) && c.became(waits) && n[waits] != 0 && n[usual]+n[other] == 0 {
				n[usual] = 1
			}
		},
		wrong: func(g *GPU) string {
			if n := g.Numbers; n[waits] != 0 && n[usual]+n[other] == 0 {
				return fmt.Sprintf("%s is 1, and %s and %s are 0", waits, usual, other)
			}
			return ""
		},
	}
}
