package smi_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// known reads --help-query-gpu as programs do: a name in quotes that follows an
// empty line. It returns all names of each property by the first.
func known(t *testing.T) map[string][]string {
	t.Helper()
	names := make(map[string][]string)
	for _, m := range regexp.MustCompile(`(?m)^\n"(.*)"$`).FindAllStringSubmatch(ask(t, "--help-query-gpu"), -1) {
		all := strings.Split(m[1], `" or "`)
		names[all[0]] = all
	}
	return names
}

// value asks for a property of the first GPU.
func value(t *testing.T, property string) string {
	t.Helper()
	return strings.TrimSuffix(ask(t, "-i", "0", "--query-gpu="+property, "--format=csv,noheader"), "\n")
}

// settings say for each property what is set in fakegpu, on which model, and
// what must then be printed.
var settings = []struct{ property, profile, set, want string }{
	{"name", "", "name=Mine", "Mine"},
	{"serial", "", "serial=42", "42"},
	{"pci.bus_id", "", "bus=171", "00000000:AB:00.0"},
	{"pci.bus", "", "bus=171", "0xAB"},
	{"pci.device_id", "", "pci_device=0x1EB810DE", "0x1EB810DE"},
	{"pci.sub_device_id", "", "pci_subsystem=0x12A210DE", "0x12A210DE"},
	{"pcie.link.gen.current", "", "pcie_gen=3", "3"},
	{"pcie.link.gen.gpucurrent", "", "pcie_gen=3", "3"},
	{"pcie.link.gen.max", "", "pcie_gen_max=4 pcie_gen=4", "4"},
	{"pcie.link.gen.gpumax", "", "pcie_gen_device=6", "6"},
	{"pcie.link.width.current", "", "pcie_width=8", "8"},
	{"pcie.link.width.max", "", "pcie_width_max=8 pcie_width=8", "8"},
	{"persistence_mode", "", "persistence=0", "Disabled"},
	{"vbios_version", "", "vbios=1.2.3", "1.2.3"},
	{"gpu_recovery_action", "", "recovery_action=4", "Drain and Reset"},
	{"fan.speed", "RTX-4090", "fan_speed=38", "38 %"},
	{"fan.speed", "RTX-4090", "fans=0", "[N/A]"},
	{"pstate", "", "pstate=2", "P2"},
	{"compute_mode", "", "compute_mode=3", "Exclusive_Process"},
	{"compute_cap", "", "architecture=10 cc_major=12 cc_minor=1", "12.1"},
	{"clocks_event_reasons.active", "", "clock_reasons=0x24", "0x0000000000000024"},
	{"clocks_event_reasons.gpu_idle", "", "clock_reasons=0", "Not Active"},
	{"clocks_event_reasons.applications_clocks_setting", "", "clock_reasons=0x2", "Active"},
	{"clocks_event_reasons.sw_power_cap", "", "clock_reasons=0x4", "Active"},
	{"clocks_event_reasons.hw_slowdown", "", "clock_reasons=0x8", "Active"},
	{"clocks_event_reasons.sync_boost", "", "clock_reasons=0x10", "Active"},
	{"clocks_event_reasons.sw_thermal_slowdown", "", "clock_reasons=0x20", "Active"},
	{"clocks_event_reasons.hw_thermal_slowdown", "", "clock_reasons=0x40", "Active"},
	{"clocks_event_reasons.hw_power_brake_slowdown", "", "clock_reasons=0x80", "Active"},
	{"memory.total", "", "memory=90Gi", "92160 MiB"},
	{"memory.reserved", "", "memory_reserved=777Mi", "777 MiB"},
	{"memory.used", "", "memory_used=1000000000", "954 MiB"},
	{"memory.free", "", "memory=90Gi memory_reserved=1Gi memory_used=9Gi", "81920 MiB"},
	{"utilization.gpu", "", "utilization_gpu=97", "97 %"},
	{"utilization.memory", "", "utilization_memory=41", "41 %"},
	{"utilization.encoder", "", "utilization_encoder=5", "5 %"},
	{"utilization.decoder", "", "utilization_decoder=6", "6 %"},
	{"utilization.jpeg", "", "utilization_jpeg=7", "7 %"},
	{"utilization.ofa", "", "utilization_ofa=8", "8 %"},
	{"ecc.mode.current", "", "ecc=0", "[N/A]"},
	{"ecc.mode.pending", "", "ecc=0", "[N/A]"},
	{"ecc.errors.corrected.volatile.device_memory", "", "ecc_dram_corrected_volatile=3", "3"},
	{"ecc.errors.corrected.volatile.dram", "", "ecc_dram_corrected_volatile=3", "3"},
	{"ecc.errors.corrected.volatile.sram", "", "ecc_sram_corrected_volatile=4", "4"},
	{"ecc.errors.corrected.volatile.total", "", "ecc_dram_corrected_volatile=3 ecc_sram_corrected_volatile=4", "7"},
	{"ecc.errors.corrected.aggregate.device_memory", "", "ecc_dram_corrected_aggregate=5", "5"},
	{"ecc.errors.corrected.aggregate.dram", "", "ecc_dram_corrected_aggregate=5", "5"},
	{"ecc.errors.corrected.aggregate.sram", "", "ecc_sram_corrected_aggregate=6", "6"},
	{"ecc.errors.corrected.aggregate.total", "", "ecc_dram_corrected_aggregate=5 ecc_sram_corrected_aggregate=6", "11"},
	{"ecc.errors.uncorrected.volatile.device_memory", "", "ecc_dram_uncorrected_volatile=1", "1"},
	{"ecc.errors.uncorrected.volatile.dram", "", "ecc_dram_uncorrected_volatile=1", "1"},
	{"ecc.errors.uncorrected.volatile.sram", "", "ecc_sram_uncorrected_volatile=2", "2"},
	{"ecc.errors.uncorrected.volatile.total", "", "ecc_dram_uncorrected_volatile=1 ecc_sram_uncorrected_volatile=2", "3"},
	{"ecc.errors.uncorrected.aggregate.device_memory", "", "ecc_dram_uncorrected_aggregate=8", "8"},
	{"ecc.errors.uncorrected.aggregate.dram", "", "ecc_dram_uncorrected_aggregate=8", "8"},
	{"ecc.errors.uncorrected.aggregate.sram", "", "ecc_sram_uncorrected_aggregate=9", "9"},
	{"ecc.errors.uncorrected.aggregate.total", "", "ecc_dram_uncorrected_aggregate=8 ecc_sram_uncorrected_aggregate=9", "17"},
	{"retired_pages.single_bit_ecc.count", "V100-32GB", "retired_single=2", "2"},
	{"retired_pages.double_bit.count", "V100-32GB", "retired_double=3", "3"},
	{"retired_pages.pending", "V100-32GB", "retired_pending=1", "Yes"},
	{"remapped_rows.correctable", "", "remap_corrected=2", "2"},
	{"remapped_rows.uncorrectable", "", "remap_uncorrected=3", "3"},
	{"remapped_rows.pending", "", "remap_pending=1", "Yes"},
	{"remapped_rows.failure", "", "remap_failed=1", "Yes"},
	{"temperature.gpu", "", "temperature=85", "85"},
	{"temperature.gpu.tlimit", "", "temperature=84", "3"},
	{"temperature.memory", "", "temperature_memory=91", "91"},
	{"temperature.memory", "", "temperature_memory=0", "N/A"},
	{"power.draw", "", "power=81239", "81.24 W"},
	{"power.draw.average", "", "power=81239", "81.24 W"},
	{"power.draw.instant", "", "power=81239", "81.24 W"},
	{"power.limit", "", "power_limit=500000", "500.00 W"},
	{"enforced.power.limit", "", "power_limit=500000", "500.00 W"},
	{"power.default_limit", "", "power_default=600000", "600.00 W"},
	{"power.min_limit", "", "power_min=100000", "100.00 W"},
	{"power.max_limit", "", "power_max=800000", "800.00 W"},
	{"clocks.current.graphics", "", "clock_graphics=1500", "1500 MHz"},
	{"clocks.current.sm", "", "clock_sm=1515", "1515 MHz"},
	{"clocks.current.memory", "", "clock_memory=1593", "1593 MHz"},
	{"clocks.current.video", "", "clock_video=1503", "1503 MHz"},
	{"clocks.max.graphics", "", "max_clock_graphics=2010", "2010 MHz"},
	{"clocks.max.sm", "", "max_clock_sm=2025", "2025 MHz"},
	{"clocks.max.memory", "", "max_clock_memory=3002", "3002 MHz"},
	{"platform.module_id", "", "module=6", "6"},
	{"inforom.img", "", "inforom_image=G1.2", "G1.2"},
	{"inforom.ecc", "", "inforom_ecc=9.8", "9.8"},
	{"inforom.oem", "", "inforom_oem=2.2", "2.2"},
	{"accounting.mode", "", "accounting=1", "Enabled"},
	{"addressing_mode", "", "addressing=3", "ATS"},
	{"addressing_mode", "", "addressing=0", "[N/A]"},
	{"c2c.mode", "", "c2c=2", "Enabled"},
	{"fabric.state", "", "fabric=2", "In Progress"},
	{"fabric.state", "", "fabric=0", "N/A"},
	{"clocks.applications.graphics", "", "app_clock_graphics=1500", "1500 MHz"},
	{"clocks.applications.memory", "", "app_clock_memory=1593", "1593 MHz"},
	{"clocks.default_applications.graphics", "", "app_clock_graphics=1500", "1500 MHz"},
	{"clocks.default_applications.memory", "", "app_clock_memory=1593", "1593 MHz"},
	{"clocks_event_reasons_counters.sw_power_cap", "", "violation_power=7000000", "7000 us"},
	{"clocks_event_reasons_counters.sw_thermal_slowdown", "", "violation_thermal=8000", "8 us"},
	{"remapped_rows.histogram.max", "", "remap_banks=77", "77"},
}

func TestPropertiesSayWhatIsSet(t *testing.T) {
	for _, test := range settings {
		t.Run(test.property, func(t *testing.T) {
			profile := "H100-80GB"
			if test.profile != "" {
				profile = test.profile
			}
			dir, _ := create(t, fakegpu.Spec{Profile: profile, Count: 1})
			if before := value(t, test.property); before == test.want {
				t.Errorf("it is %q before anything is set", before)
			}
			check(t, fakegpu.Set(dir, "0", strings.Fields(test.set)...))
			for _, name := range known(t)[test.property] {
				same(t, name, test.want, value(t, name))
			}
		})
	}
}

// functions says through which function of NVML each property is read.
var functions = map[string]string{
	"SystemGetDriverVersion": "driver_version",
	"DeviceGetName":          "name", "DeviceGetSerial": "serial", "DeviceGetUUID": "uuid", "DeviceGetIndex": "index",
	"DeviceGetPciInfo_v3":                "pci.bus_id pci.domain pci.bus pci.device pci.device_id pci.sub_device_id",
	"DeviceGetPciInfoExt":                "pci.baseClass pci.subClass",
	"DeviceGetCurrPcieLinkGeneration":    "pcie.link.gen.current pcie.link.gen.gpucurrent",
	"DeviceGetMaxPcieLinkGeneration":     "pcie.link.gen.max",
	"DeviceGetGpuMaxPcieLinkGeneration":  "pcie.link.gen.gpumax",
	"DeviceGetCurrPcieLinkWidth":         "pcie.link.width.current",
	"DeviceGetMaxPcieLinkWidth":          "pcie.link.width.max",
	"DeviceGetDisplayMode":               "display_mode display_attached",
	"DeviceGetDisplayActive":             "display_active",
	"DeviceGetPersistenceMode":           "persistence_mode",
	"DeviceGetAccountingMode":            "accounting.mode",
	"DeviceGetAccountingBufferSize":      "accounting.buffer_size",
	"DeviceGetDriverModel_v2":            "driver_model.current driver_model.pending",
	"DeviceGetVbiosVersion":              "vbios_version",
	"DeviceGetInforomImageVersion":       "inforom.img",
	"DeviceGetInforomVersion":            "inforom.oem inforom.ecc inforom.pwr",
	"DeviceGetGpuOperationMode":          "gom.current gom.pending",
	"DeviceGetFanSpeed":                  "fan.speed",
	"DeviceGetPerformanceState":          "pstate",
	"DeviceGetComputeMode":               "compute_mode",
	"DeviceGetCudaComputeCapability":     "compute_cap",
	"DeviceGetMigMode":                   "mig.mode.current mig.mode.pending",
	"DeviceGetMemoryInfo_v2":             "memory.total memory.reserved memory.used memory.free",
	"DeviceGetUtilizationRates":          "utilization.gpu utilization.memory",
	"DeviceGetEncoderUtilization":        "utilization.encoder",
	"DeviceGetDecoderUtilization":        "utilization.decoder",
	"DeviceGetJpgUtilization":            "utilization.jpeg",
	"DeviceGetOfaUtilization":            "utilization.ofa",
	"DeviceGetEncoderStats":              "encoder.stats.sessionCount encoder.stats.averageFps encoder.stats.averageLatency",
	"DeviceGetEccMode":                   "ecc.mode.current ecc.mode.pending",
	"DeviceGetRetiredPages":              "retired_pages.single_bit_ecc.count retired_pages.double_bit.count",
	"DeviceGetRetiredPagesPendingStatus": "retired_pages.pending",
	"DeviceGetRemappedRows":              "remapped_rows.correctable remapped_rows.uncorrectable remapped_rows.pending remapped_rows.failure",
	"DeviceGetTemperature":               "temperature.gpu",
	"DeviceGetMarginTemperature":         "temperature.gpu.tlimit",
	"DeviceGetPowerManagementMode":       "power.management",
	"DeviceGetPowerUsage":                "power.draw",
	"DeviceGetPowerManagementLimit":      "power.limit", "DeviceGetEnforcedPowerLimit": "enforced.power.limit",
	"DeviceGetPowerManagementDefaultLimit":         "power.default_limit",
	"DeviceGetPowerManagementLimitConstraints":     "power.min_limit power.max_limit",
	"DeviceGetClockInfo":                           "clocks.current.graphics clocks.current.sm clocks.current.memory clocks.current.video",
	"DeviceGetMaxClockInfo":                        "clocks.max.graphics clocks.max.sm clocks.max.memory",
	"DeviceGetApplicationsClock":                   "clocks.applications.graphics clocks.applications.memory",
	"DeviceGetDefaultApplicationsClock":            "clocks.default_applications.graphics clocks.default_applications.memory",
	"DeviceGetSupportedClocksThrottleReasons":      "clocks_event_reasons.supported",
	"DeviceGetAddressingMode":                      "addressing_mode",
	"DeviceGetGspFirmwareMode":                     "gsp.mode.current gsp.mode.default",
	"DeviceGetC2cModeInfoV":                        "c2c.mode",
	"DeviceGetDramEncryptionMode":                  "dramEncryption.mode.current dramEncryption.mode.pending",
	"DeviceGetConfComputeProtectedMemoryUsage":     "protected_memory.total protected_memory.used protected_memory.free",
	"DeviceGetModuleId":                            "platform.module_id",
	"DeviceGetGpuFabricInfoV":                      "fabric.state fabric.status fabric.cliqueId fabric.clusterUuid",
	"DeviceGetFieldValues":                         "gpu_recovery_action temperature.memory power.draw.average power.draw.instant *clocks_event_reasons_counters.",
	"DeviceGetCurrentClocksThrottleReasons":        "clocks_event_reasons.active *clocks_event_reasons.",
	"DeviceGetRowRemapperHistogram":                "*remapped_rows.histogram.",
	"DeviceGetSramEccErrorStatus":                  "ecc.errors.uncorrected.volatile.sram.parity ecc.errors.uncorrected.volatile.sram.secded *ecc.errors.uncorrected.aggregate.sram.",
	"DeviceGetTotalEccErrors":                      "ecc.errors.corrected.volatile.total ecc.errors.corrected.aggregate.total ecc.errors.uncorrected.volatile.total ecc.errors.uncorrected.aggregate.total",
	"DeviceGetMemoryErrorCounter":                  "*ecc.errors.",
	"DeviceGetCount_v2, and the clock of this one": "count timestamp",
}

// through finds the function of a property: the one that has its name, else the
// one with the longest beginning of it.
func through(property string) (function string) {
	longest := 0
	for f, names := range functions {
		for name := range strings.FieldsSeq(names) {
			prefix, is := strings.CutPrefix(name, "*")
			if name == property {
				return f
			}
			if is && strings.HasPrefix(property, prefix) && len(prefix) > longest {
				function, longest = f, len(prefix)
			}
		}
	}
	return function
}

// TestPropertiesAreReadThroughNVML lets the function of each property fail.
func TestPropertiesAreReadThroughNVML(t *testing.T) {
	dir, _ := create(t, fakegpu.Spec{Profile: "H100-80GB", Count: 1})
	for _, property := range slices.Sorted(maps.Keys(known(t))) {
		function := through(property)
		if function == "" {
			t.Errorf("%s is read through no function that this test knows", property)
		}
		if strings.Contains(function, " ") {
			continue
		}
		const denied = "[Insufficient Permissions]"
		if before := value(t, property); before == denied {
			t.Fatalf("%s is %q before anything fails", property, before)
		}
		gpu := "0"
		if strings.HasPrefix(function, "System") {
			gpu = ""
		}
		check(t, fakegpu.Inject(dir, gpu, fakegpu.Fault{Function: "nvml" + function, Code: uint64(nvml.ERROR_NO_PERMISSION)}))
		same(t, property+" without "+function, denied, value(t, property))
		check(t, fakegpu.Heal(dir, "all"))
	}
}

// TestOtherProperties are those that no key of one GPU sets.
func TestOtherProperties(t *testing.T) {
	dir, gpus := create(t, fakegpu.Spec{Profile: "H100-80GB", Count: 3})
	same(t, "of three", "0, 3, "+gpus[0].UUID, value(t, "index,count,uuid"))
	same(t, "not divided", "Disabled, Disabled", value(t, "mig.mode.current,mig.mode.pending"))
	check(t, fakegpu.SplitMIG(dir, "0", "3g.40gb"))
	same(t, "divided", "Enabled, Enabled, [N/A]", value(t, "mig.mode.current,mig.mode.pending,utilization.gpu"))

	file := filepath.Join(dir, "state")
	state, err := os.ReadFile(file)
	check(t, err)
	next := filepath.Join(dir, "next")
	check(t, os.WriteFile(next, []byte(strings.Replace(string(state), "driver 580.95.05", "driver 590.48.01", 1)), 0o644))
	check(t, os.Rename(next, file))
	same(t, "driver", "590.48.01", value(t, "driver_version"))
}

func TestHeadings(t *testing.T) {
	dir, _ := create(t, fakegpu.Spec{Profile: "T4", Count: 1})
	check(t, fakegpu.Set(dir, "0", "vbios=90.04", "clock_reasons=1"))
	for _, test := range []struct{ names, format, want string }{
		{"gpu_name,gpu_bus_id,vbios_version", "csv", "name, pci.bus_id, vbios_version\nTesla T4, 00000000:01:00.0, 90.04\n"},
		{"memory.total, clocks.sm ,power.limit", "csv", "memory.total [MiB], clocks.current.sm [MHz], power.limit [W]\n15360 MiB, "},
		{"clocks_throttle_reasons.gpu_idle", "csv", "clocks_event_reasons.gpu_idle\nActive\n"},
		{"memory.total,temperature.memory,fan.speed", "csv,nounits", "memory.total, temperature.memory, fan.speed\n15360, N/A, [N/A]\n"},
		{"memory.total", "csv,noheader", "15360 MiB\n"},
		{"memory.total", "csv,noheader,nounits", "15360\n"},
	} {
		if got := ask(t, "--query-gpu="+test.names, "--format="+test.format); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s as %s gives %q, want %q", test.names, test.format, got, test.want)
		}
	}
}

// old is the library of a driver that lacks functions.
type old struct{ nvml.Interface }

func (o old) Extensions() nvml.ExtendedInterface { return lacking{o.Interface.Extensions()} }

type lacking struct{ nvml.ExtendedInterface }

func (l lacking) LookupSymbol(name string) error {
	if name == "nvmlDeviceGetMemoryInfo_v2" || name == "nvmlDeviceGetJpgUtilization" || name == "nvmlDeviceGetMigMode" {
		return os.ErrNotExist
	}
	return l.ExtendedInterface.LookupSymbol(name)
}

// TestOldDriver has functions that may not be called: that would end the process.
func TestOldDriver(t *testing.T) {
	dir, _ := create(t, fakegpu.Spec{Profile: "T4", Count: 1})
	for _, function := range []string{"nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetJpgUtilization", "nvmlDeviceGetMigMode"} {
		check(t, fakegpu.Inject(dir, "0", fakegpu.Fault{Function: function, Code: 999}))
	}
	for _, test := range []struct{ args, want string }{
		{"--query-gpu=memory.total,utilization.jpeg,mig.mode.current,utilization.gpu --format=csv,noheader", "15360 MiB, [N/A], [N/A], 0 %\n"},
		{"-L", "GPU 0: Tesla T4 (UUID: "},
		{"", "MiB /  15360MiB |"},
	} {
		code, out := runOn(old{library()}, strings.Fields(test.args)...)
		if code != 0 || !strings.Contains(out, test.want) || strings.Contains(out, "Unknown") || strings.Contains(out, "ERR!") {
			t.Errorf("%q ends with %d, want %q in:\n%s", test.args, code, test.want, out)
		}
	}
}
