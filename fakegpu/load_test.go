package fakegpu_test

import (
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/studioml/studio-go-runner/fakegpu"
)

func stateOf(t *testing.T, dir string) fakegpu.GPU {
	t.Helper()
	m, err := fakegpu.Load(dir)
	check(t, err)
	return m.GPUs[0]
}

// TestLoadMovesEverything: one verb, and all that is read of a GPU says that it
// works so much; another, and it is as it was when it was new.
func TestLoadMovesEverything(t *testing.T) {
	for _, profile := range fakegpu.Profiles() {
		t.Run(profile, func(t *testing.T) {
			dir := t.TempDir()
			machine(t, dir, fakegpu.Spec{Profile: profile, Count: 1})
			rest := stateOf(t, dir)
			check(t, fakegpu.SetProcesses(dir, "0", []fakegpu.Process{{PID: 1, Type: "compute", Name: "a"}, {PID: 2, Type: "compute", Name: "b"}}))
			last := rest
			for _, percent := range []uint64{20, 80, 100} {
				check(t, fakegpu.SetLoad(dir, "0", percent))
				g := stateOf(t, dir)
				n := g.Numbers
				for _, key := range []string{"utilization_gpu", "utilization_memory", "power", "temperature", "memory_used", "pcie_tx", "pcie_rx"} {
					if n[key] <= last.Numbers[key] {
						t.Errorf("%s is %d at %d %%, want more than %d", key, n[key], percent, last.Numbers[key])
					}
				}
				if capped := n["clock_sm"] < n["max_clock_sm"]; capped != (percent == 100) || n["pstate"] != 0 || n["clock_reasons"]&1 != 0 || n["temperature"] >= n["temperature_max"] {
					t.Errorf("at %d %% a GPU has clock %d, P%d, reasons %#x, %d degrees", percent, n["clock_sm"], n["pstate"], n["clock_reasons"], n["temperature"])
				}
				used := g.Processes[0].Memory + g.Processes[1].Memory
				if len(g.Processes) != 2 || used > n["memory_used"] || n["memory_used"]-used > 1 || g.Processes[0].SM != percent/2 {
					t.Errorf("at %d %% the processes are %v, and the memory used is %d", percent, g.Processes, n["memory_used"])
				}
				last = g
			}
			if last.Numbers["power"] != last.Numbers["power_limit"] || last.Numbers["clock_reasons"]&nvml.ClocksEventReasonSwPowerCap == 0 {
				t.Errorf("at 100 %% the power is %d of %d, reasons %#x", last.Numbers["power"], last.Numbers["power_limit"], last.Numbers["clock_reasons"])
			}
			check(t, fakegpu.Idle(dir, "0"))
			idle := stateOf(t, dir)
			for _, key := range []string{"energy", "violation_power", "since", "counted_from"} { // which go on
				delete(idle.Numbers, key)
			}
			zeros := cmpopts.IgnoreMapEntries(func(_ string, n uint64) bool { return n == 0 })
			if diff := cmp.Diff(rest, idle, cmpopts.EquateEmpty(), zeros); diff != "" {
				t.Errorf("an idle GPU (-new +idle):\n%s", diff)
			}
		})
	}
}

func TestValuesThatContradictEachOther(t *testing.T) {
	dir := t.TempDir()
	machine(t, dir, fakegpu.Spec{Profile: "H100-80GB", Count: 1})
	for value, want := range map[string]string{
		"clock_sm=1981": "clock_graphics is 1981, and with the memory at 2619 it is 1980 at most", "max_clock_memory=100": "low_clock_memory is 1593, and max_clock_memory",
		"clock_memory=2000": "clock_memory is 2000, and in state 0 it is 2619 (the states of this GPU are 0 and 2)", "clock_sm=901": "which this GPU does not support; the next is 900",
		"pstate=8": "pstate is 8; this GPU has 0 and 2", "pcie_gen=0": "pcie_gen is 0, and pcie_gen_max", "power=700001": "power is 700001, and power_limit",
		"temperature=96": "temperature is 96, and temperature_shutdown", "fan_speed=5": "this GPU has no fans", "retired_single=1": "this GPU has no pages to retire",
		"pcie_tx=63008001": "the link carries 63008000", "cc_major=7": "no compute capability of architecture 9", "clock_sm=0": "clock_graphics is 0",
		"pcie_gen=6": "pcie_gen is 6, and pcie_gen_max", "pcie_width=32": "pcie_width is 32, and pcie_width_max",
		"power_limit=700001": "power_limit is 700001, and power_max", "power_limit=1": "power_limit is 1, and power_min",
		"power_min=700001": "power_min is 700001, and power_max", "power_default=700001": "power_default is 700001, and power_max",
		"clock_lowest=1981": "clock_lowest is 1981, and max_clock_graphics", "low_clock_memory=2620": "low_clock_memory is 2620, and max_clock_memory",
	} {
		refused(t, fakegpu.Set(dir, "0", value), want)
	}
	for _, values := range [][]string{
		{"pstate=2", "clock_memory=2619"}, {"utilization_gpu=100", "memory_used=0"}, {"utilization_gpu=5", "clock_reasons=1"}, {"temperature=90", "clock_reasons=0"},
		{"clock_sm=900", "clock_graphics=915"}, {"remap_pending=1", "remap_uncorrected=0"}, {"ecc_dram_corrected_volatile=2", "ecc_dram_corrected_aggregate=1"},
	} {
		if fakegpu.Set(dir, "0", values...) == nil {
			t.Errorf("%q is taken", values)
		}
	}
	two := []fakegpu.Process{{PID: 1, Type: "compute", Memory: 2 << 30, Name: "a"}, {PID: 2, Type: "compute", Memory: 1 << 30, Name: "b"}}
	refused(t, fakegpu.SetProcesses(dir, "0", two, "memory_used=2Gi"), "memory_used is 2147483648, and the processes of this GPU use 3221225472")
	for _, step := range []struct {
		do   func() error
		want map[string]uint64
	}{
		{func() error { return fakegpu.SetProcesses(dir, "0", two) }, map[string]uint64{"memory_used": 3 << 30}},
		{func() error { return fakegpu.SetProcesses(dir, "0", two[:1]) }, map[string]uint64{"memory_used": 2 << 30}},
		{func() error { return fakegpu.Set(dir, "0", "memory_used=5Gi") }, map[string]uint64{"memory_used": 5 << 30}},
		{func() error { return fakegpu.SetProcesses(dir, "0", nil) }, map[string]uint64{"memory_used": 3 << 30}},
		{func() error { return fakegpu.Set(dir, "0", "utilization_gpu=40") }, map[string]uint64{"clock_reasons": 0}},
		{func() error { return fakegpu.SetProcesses(dir, "0", two[:1], "utilization_gpu=40") }, map[string]uint64{"utilization_gpu": 40}},
		{func() error { return fakegpu.Set(dir, "0", "utilization_gpu=0") }, map[string]uint64{"clock_reasons": 1}},
		{func() error { return fakegpu.Set(dir, "0", "power=690000") }, map[string]uint64{"power": 690_000}},
		{func() error { return fakegpu.Set(dir, "0", "power_limit=300000") }, map[string]uint64{"power": 300_000}},
		{func() error { return fakegpu.SetProcesses(dir, "0", nil, "memory_used=0") }, map[string]uint64{"memory_used": 0}},
		{func() error { return fakegpu.Set(dir, "0", "utilization_gpu=100") }, map[string]uint64{"memory_used": 512 << 20, "clock_reasons": 0}},
		{func() error { return fakegpu.Set(dir, "0", "utilization_gpu=0") }, map[string]uint64{"clock_reasons": 1}},
		{func() error { return fakegpu.Set(dir, "0", "utilization_decoder=3") }, map[string]uint64{"clock_reasons": 0}},
		{func() error { return fakegpu.Set(dir, "0", "temperature=91") }, map[string]uint64{"clock_reasons": 0x68}},
		{func() error { return fakegpu.Set(dir, "0", "temperature=50") }, map[string]uint64{"clock_reasons": 0}},
		{func() error { return fakegpu.Set(dir, "0", "pstate=2") }, map[string]uint64{"clock_memory": 1593}},
		{func() error { return fakegpu.Set(dir, "0", "clock_memory=2619") }, map[string]uint64{"pstate": 0}},
		{func() error { return fakegpu.Set(dir, "0", "clock_sm=900") }, map[string]uint64{"clock_graphics": 900}},
		{func() error { return fakegpu.Set(dir, "0", "pcie_tx=60000000") }, map[string]uint64{"pcie_tx": 60_000_000}},
		{func() error { return fakegpu.Set(dir, "0", "pcie_gen=3") }, map[string]uint64{"pcie_tx": 985_000 * 16}},
		{func() error { return fakegpu.Set(dir, "0", "ecc_sram_corrected_volatile=3") }, map[string]uint64{"ecc_sram_corrected_aggregate": 3}},
		{func() error { return fakegpu.Set(dir, "0", "remap_pending=1") }, map[string]uint64{"remap_uncorrected": 1}},
		{func() error { return fakegpu.Set(dir, "0", "ecc=0") }, map[string]uint64{"ecc_sram_corrected_aggregate": 0, "remap_pending": 0, "remap_uncorrected": 0}},
		{func() error { return fakegpu.Set(dir, "0", "max_clock_memory=2700") }, map[string]uint64{"clock_memory": 2700, "app_clock_memory": 2700}},
	} {
		check(t, step.do())
		got := maps.Clone(step.want)
		for key := range got {
			got[key] = stateOf(t, dir).Numbers[key]
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("what follows (-want +got):\n%s", diff)
		}
	}
}

// TestRootSetsModes, for all programs: what the library writes the commands read,
// and the other way round.
func TestRootSetsModes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may")
	}
	lib, dir, gpus := open(t, fakegpu.Spec{Profile: "H100-80GB", Count: 3})
	device, _ := lib.DeviceGetHandleByIndex(1)
	check(t, fakegpu.SetLoad(dir, "1", 100))
	for name, r := range map[string]nvml.Return{
		"persistence": device.SetPersistenceMode(nvml.FEATURE_DISABLED), "accounting": device.SetAccountingMode(nvml.FEATURE_ENABLED),
		"power limit": device.SetPowerManagementLimit(400_000), "compute mode": device.SetComputeMode(nvml.COMPUTEMODE_EXCLUSIVE_PROCESS),
	} {
		if r != nvml.SUCCESS {
			t.Errorf("setting the %s gives %v", name, r)
		}
	}
	for name, r := range map[string]nvml.Return{
		"persistence": device.SetPersistenceMode(2), "power limit, too low": device.SetPowerManagementLimit(1),
		"power limit, too high": device.SetPowerManagementLimit(700_001), "compute mode": device.SetComputeMode(9),
	} {
		if r != nvml.ERROR_INVALID_ARGUMENT {
			t.Errorf("setting the %s gives %v", name, r)
		}
	}
	persistence, _ := device.GetPersistenceMode() // which a program sees at its next call
	accounting, _ := device.GetAccountingMode()
	limit, _ := device.GetPowerManagementLimit()
	mode, _ := device.GetComputeMode()
	want := []any{nvml.FEATURE_DISABLED, nvml.FEATURE_ENABLED, uint32(400_000), nvml.COMPUTEMODE_EXCLUSIVE_PROCESS}
	if diff := cmp.Diff(want, []any{persistence, accounting, limit, mode}); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
	m, err := fakegpu.Load(dir)
	check(t, err)
	n := m.GPUs[1].Numbers
	if n["persistence"] != 0 || n["accounting"] != 1 || n["power"] != 400_000 || n["energy"] == 0 || m.GPUs[0].Numbers["persistence"] != 1 {
		t.Errorf("the state says %v, and of the first GPU %v", n, m.GPUs[0].Numbers)
	}
	if diff := cmp.Diff([]string{gpus[0].UUID, gpus[1].UUID, gpus[2].UUID}, uuidsOf(m.GPUs)); diff != "" {
		t.Errorf("GPUs (-want +got):\n%s", diff)
	}
	check(t, fakegpu.Set(dir, "1", "power_limit=500000"))
	until(t, "the command has the last word", func() bool { mW, _ := device.GetPowerManagementLimit(); return mW == 500_000 })
}

// TestASetterWaitsForTheNewestState: what it lets follow, follows from what the
// writer before it has left.
func TestASetterWaitsForTheNewestState(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may")
	}
	lib, dir, _ := open(t, fakegpu.Spec{Profile: "H100-80GB", Count: 1})
	device, _ := lib.DeviceGetHandleByIndex(0)
	check(t, fakegpu.Set(dir, "0", "power=690000"))
	until(t, "it takes that", func() bool { mW, _ := device.GetPowerUsage(); return mW == 690_000 })
	m, err := fakegpu.Load(dir)
	check(t, err)
	lock, err := os.Open(filepath.Join(dir, ".lock"))
	check(t, err)
	defer lock.Close()
	check(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	tries, err := syscall.InotifyInit()
	check(t, err)
	defer syscall.Close(tries)
	_, err = syscall.InotifyAddWatch(tries, lock.Name(), syscall.IN_OPEN)
	check(t, err)
	answer := make(chan nvml.Return, 1)
	go func() { answer <- device.SetPowerManagementLimit(400_000) }()
	_, err = syscall.Read(tries, make([]byte, 1024)) // it tries to get the lock
	check(t, err)
	m.GPUs[0].Numbers["power"] = 100_000
	put(t, dir, fakegpu.Format(m))
	check(t, lock.Close())
	if r := <-answer; r != nvml.SUCCESS {
		t.Fatalf("setting the limit gives %v", r)
	}
	if n := stateOf(t, dir).Numbers; n["power"] != 100_000 || n["power_limit"] != 400_000 {
		t.Errorf("power is %d of %d, want what the writer before has left", n["power"], n["power_limit"])
	}
}

// TestWhoChangesLastLocksNobodyOut, whatever its umask is.
func TestWhoChangesLastLocksNobodyOut(t *testing.T) {
	lib, dir, _ := open(t, fakegpu.Spec{Profile: "T4", Count: 1})
	device, _ := lib.DeviceGetHandleByIndex(0)
	owner := 0
	if os.Geteuid() == 0 {
		owner = 65534
		check(t, os.Chown(filepath.Join(dir, "state"), owner, owner))
	}
	before := syscall.Umask(0o077)
	defer syscall.Umask(before)
	look := func(who, file string) {
		t.Helper()
		info, err := os.Stat(filepath.Join(dir, file))
		check(t, err)
		if got := info.Sys().(*syscall.Stat_t).Uid; info.Mode() != 0o644 || os.Geteuid() == 0 && int(got) != owner {
			t.Errorf("after %s the %s is %v of %d", who, file, info.Mode(), got)
		}
	}
	check(t, fakegpu.RaiseXid(dir, "0", 13))
	look("inject", "state")
	look("inject", "events")
	if os.Geteuid() == 0 {
		if r := device.SetPersistenceMode(nvml.FEATURE_DISABLED); r != nvml.SUCCESS {
			t.Errorf("setting the persistence gives %v", r)
		}
		look("a client", "state")
	}
}

// TestSettersAreForRoot, though somebody else could write the directory.
func TestSettersAreForRoot(t *testing.T) {
	open := t.TempDir()
	check(t, os.Chmod(filepath.Dir(open), 0o755))
	check(t, os.Chmod(open, 0o755))
	check(t, os.CopyFS(open, os.DirFS(filepath.Dir(files.library))))
	dir := filepath.Join(open, "state")
	machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 1})
	check(t, os.Remove(filepath.Join(dir, ".lock")))
	check(t, os.Chmod(dir, 0o777))
	if got := asNobody(t, open, "setter", dir); got != "4" {
		t.Errorf("nvmlDeviceSetPersistenceMode of somebody gives %s, want 4", got)
	}
}
