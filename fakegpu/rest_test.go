package fakegpu_test

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	cmpdiff "github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// answer prints what NVML answers, and - where it does not support the question.
func answer[T any](value T, r nvml.Return) string {
	switch r {
	case nvml.SUCCESS:
		return fmt.Sprint(value)
	case nvml.ERROR_NOT_SUPPORTED:
		return "-"
	}
	return r.Error()
}

// clocksOf lists the supported graphics clocks of each memory clock, from the
// highest down, as the client in C reads them: go-nvml has no room for them.
func clocksOf(t *testing.T, dir string) map[string][]string {
	t.Helper()
	all := make(map[string][]string)
	for line := range strings.Lines(run(t, files.variants["plain"], dir, "now", "clocks")) {
		memory, clocks, _ := strings.Cut(line, ":")
		all[memory] = strings.Fields(clocks)
	}
	return all
}

// brief tells of each memory clock how many others there are, the highest, the
// second and the lowest.
func brief(clocks map[string][]string) string {
	var parts []string
	for memory, g := range clocks {
		parts = append(parts, fmt.Sprintf("%s(%d: %s %s %s)", memory, len(g), g[0], g[1], g[len(g)-1]))
	}
	slices.SortFunc(parts, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(b, a)) })
	return strings.Join(parts, " ")
}

// fieldOf reads a field that has a sign.
func fieldOf(device nvml.Device, id uint32) string {
	values := []nvml.FieldValue{{FieldId: id}}
	if r := device.GetFieldValues(values); r != nvml.SUCCESS {
		return r.Error()
	}
	v := values[0].Value
	n := int32(uint32(v[0]) | uint32(v[1])<<8 | uint32(v[2])<<16 | uint32(v[3])<<24)
	return answer(n, nvml.Return(values[0].NvmlReturn))
}

func clock(device nvml.Device, kind nvml.ClockType) string { return answer(device.GetClockInfo(kind)) }

func threshold(device nvml.Device, kind nvml.TemperatureThresholds) string {
	return answer(device.GetTemperatureThreshold(kind))
}

// atRest is what is told of a new GPU in the order of the captures.
func atRest(device nvml.Device) map[string]string {
	memory, _ := device.GetMemoryInfo_v2()
	histogram, r := device.GetRowRemapperHistogram()
	banks := answer(histogram.Max+histogram.None+histogram.High+histogram.Low+histogram.Partial, r)
	fabric, _ := device.GetGpuFabricInfo()
	addressing, ra := device.GetAddressingMode()
	c2c, rc := device.GetC2cModeInfoV().V1()
	margin, rm := device.GetMarginTemperature()
	app := func(kind nvml.ClockType) string { return answer(device.GetApplicationsClock(kind)) }
	return map[string]string{
		"pstate": answer(device.GetPerformanceState()), "clocks": fmt.Sprint(clock(device, nvml.CLOCK_GRAPHICS), clock(device, nvml.CLOCK_SM),
			clock(device, nvml.CLOCK_MEM), clock(device, nvml.CLOCK_VIDEO)),
		"pcie":  fmt.Sprint(answer(device.GetCurrPcieLinkGeneration()), answer(device.GetMaxPcieLinkGeneration()), answer(device.GetGpuMaxPcieLinkGeneration())),
		"power": answer(device.GetPowerUsage()), "average": fieldOf(device, nvml.FI_DEV_POWER_AVERAGE),
		"temperature": answer(device.GetTemperature(nvml.TEMPERATURE_GPU)), "of memory": fieldOf(device, nvml.FI_DEV_MEMORY_TEMP),
		"total": fmt.Sprint(memory.Total >> 20), "reserved": fmt.Sprint(memory.Reserved >> 20),
		"app": app(nvml.CLOCK_GRAPHICS) + " " + app(nvml.CLOCK_MEM), "accounting": answer(device.GetAccountingBufferSize()),
		"addressing": answer(addressing.Value, ra), "fabric": fmt.Sprint(fabric.State), "c2c": answer(c2c.IsC2cEnabled, rc),
		"inforom": answer(device.GetInforomImageVersion()) + " " + answer(device.GetInforomVersion(nvml.INFOROM_ECC)),
		"limits":  threshold(device, 0) + " " + threshold(device, 1) + " " + threshold(device, 2),
		"tlimit": answer(margin.MarginTemperature, rm) + " " + fieldOf(device, nvml.FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT) + " " +
			fieldOf(device, nvml.FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT) + " " + fieldOf(device, nvml.FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT) + " " +
			fieldOf(device, nvml.FI_DEV_TEMPERATURE_MEM_MAX_TLIMIT),
		"banks": banks,
	}
}

// TestNewGPUsAreAtRestAsRealOnes has what NVIDIA's captures show of cards that
// nothing uses (see profiles/). Of the average power they tell a little less than
// of the instant one; here both are the same.
func TestNewGPUsAreAtRestAsRealOnes(t *testing.T) {
	for profile, want := range map[string]map[string]string{
		"A100-40GB": {
			"pstate": "0", "clocks": "2102101215585", "pcie": "444", "power": "49680", "average": "-", "temperature": "33", "of memory": "34",
			"total": "40960", "reserved": "518", "app": "1095 1215", "accounting": "4000", "addressing": "1", "fabric": "0", "c2c": "-",
			"inforom": "G506.0200.00.04 6.16", "limits": "92 89 95", "tlimit": "- - - - -", "banks": "640", "supported": "1215(81: 1410 1395 210)",
		},
		"H100-80GB": {
			"pstate": "0", "clocks": "3453452619765", "pcie": "555", "power": "68920", "average": "68920", "temperature": "29", "of memory": "37",
			"total": "81559", "reserved": "480", "app": "1980 2619", "accounting": "4000", "addressing": "1", "fabric": "3", "c2c": "0",
			"inforom": "G520.0200.00.05 7.16", "limits": "95 89 95", "tlimit": "58 -8 -2 0 0", "banks": "2560",
			"supported": "2619(110: 1980 1965 345) 1593(110: 1980 1965 345)",
		},
		"B200": {
			"pstate": "0", "clocks": "1201203996600", "pcie": "555", "power": "195790", "average": "195790", "temperature": "39", "of memory": "39",
			"total": "183359", "reserved": "728", "app": "1965 3996", "accounting": "4000", "addressing": "0", "fabric": "3", "c2c": "0",
			"inforom": "G525.0220.00.03 7.16", "limits": "93 91 -", "tlimit": "49 -5 -3 0 0", "banks": "3840",
			"supported": "3996(247: 1965 1957 120) 3402(247: 1965 1957 120)",
		},
		"GB200": {
			"pstate": "0", "clocks": "1201203996600", "pcie": "556", "power": "165930", "average": "165930", "temperature": "27", "of memory": "27",
			"total": "189471", "reserved": "742", "app": "2062 3996", "accounting": "4000", "addressing": "2", "fabric": "3", "c2c": "1",
			"inforom": "G548.0201.00.06 7.16", "limits": "92 89 -", "tlimit": "60 -5 -2 0 0", "banks": "3968", "supported": "3996(260: 2062 2055 120)",
		},
		"GB300": {
			"pstate": "0", "clocks": "1201203996600", "pcie": "666", "power": "180290", "average": "180290", "temperature": "38", "of memory": "38",
			"total": "284208", "reserved": "947", "app": "2070 3996", "accounting": "4000", "addressing": "2", "fabric": "3", "c2c": "1",
			"inforom": "G548.0301.00.03 7.16", "limits": "92 89 -", "tlimit": "49 -5 -2 0 0", "banks": "5952", "supported": "3996(261: 2070 2062 120)",
		},
		"L40S": {
			"pstate": "0", "clocks": "2040204090011725", "pcie": "444", "power": "66160", "average": "66160", "temperature": "29", "of memory": "-",
			"total": "46068", "reserved": "609", "app": "- -", "accounting": "4000", "addressing": "1", "fabric": "0", "c2c": "-",
			"inforom": "G133.0242.00.03 6.16", "limits": "93 90 -", "tlimit": "59 -5 -2 0 -", "banks": "192",
			"supported": "9001(155: 2520 2505 210) 405(14: 405 390 210)",
		},
		"T4": {
			"pstate": "0", "clocks": "1590159050011470", "pcie": "333", "power": "33510", "average": "-", "temperature": "33", "of memory": "-",
			"total": "15360", "reserved": "448", "app": "- -", "accounting": "4000", "addressing": "1", "fabric": "0", "c2c": "-",
			"inforom": "G183.0200.00.02 5.0", "limits": "96 93 -", "tlimit": "- - - - -", "banks": "-",
			"supported": "5001(87: 1590 1575 300) 405(24: 645 630 300)",
		},
	} {
		t.Run(profile, func(t *testing.T) {
			lib, dir, _ := open(t, fakegpu.Spec{Profile: profile, Count: 1})
			device, _ := lib.DeviceGetHandleByIndex(0)
			got := atRest(device)
			got["supported"] = brief(clocksOf(t, dir))
			if diff := cmpdiff.Diff(want, got); diff != "" {
				t.Errorf("a new GPU (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEveryModelAgreesWithItself: the clocks that are now are supported ones, and
// nothing is above what the model can be.
func TestEveryModelAgreesWithItself(t *testing.T) {
	for _, profile := range fakegpu.Profiles() {
		t.Run(profile, func(t *testing.T) {
			lib, dir, gpus := open(t, fakegpu.Spec{Profile: profile, Count: 1})
			device, _ := lib.DeviceGetHandleByIndex(0)
			agrees(t, dir, device)
			n := gpus[0].Numbers
			within(t, "power", n["power"], 1000, n["power_limit"])
			within(t, "temperature", n["temperature"], 1, n["temperature_max"]-1)
			within(t, "PCIe generation", n["pcie_gen"], 1, n["pcie_gen_max"])
			for _, percent := range []uint64{1, 50, 100} {
				check(t, fakegpu.SetLoad(dir, "0", percent))
				until(t, "it works", func() bool { u, _ := device.GetUtilizationRates(); return uint64(u.Gpu) == percent })
				agrees(t, dir, device)
			}
		})
	}
}

// agrees checks that the clocks are supported ones.
func agrees(t *testing.T, dir string, device nvml.Device) {
	t.Helper()
	all := clocksOf(t, dir)
	now, _ := device.GetClockInfo(nvml.CLOCK_MEM)
	for _, kind := range []nvml.ClockType{nvml.CLOCK_GRAPHICS, nvml.CLOCK_SM} {
		if mhz, _ := device.GetClockInfo(kind); !slices.Contains(all[strconv.Itoa(int(now))], strconv.Itoa(int(mhz))) {
			t.Errorf("clock %d is %d with that of the memory at %d; supported are %v", kind, mhz, now, all)
		}
	}
}

func TestProfileRefusesWhatTellsGPUsApart(t *testing.T) {
	for _, key := range []string{"bus", "minor", "module", "numa", "pcie_switch", "lost", "energy", "since", "counted_from"} {
		_, err := fakegpu.Describe("name: x\n" + key + ": 1\n")
		refused(t, err, key+" is no figure of a model")
	}
}
