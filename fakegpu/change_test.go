package fakegpu_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// refused checks that there is an error of one line, with a text in it.
func refused(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("the error is %v, want one line with %q", err, want)
	}
}

func TestSetReadsNumbersAsPeopleWriteThem(t *testing.T) {
	dir := t.TempDir()
	machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 1})
	for text, want := range map[string]uint64{"85": 85, "010": 10, "0x10": 16, "0X1f": 31, "1Ki": 1024, "1e3": 1000} {
		check(t, fakegpu.Set(dir, "0", "power="+text))
		m, err := fakegpu.Load(dir)
		if got := m.GPUs[0].Numbers["power"]; err != nil || got != want {
			t.Errorf("%s is read as %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "1.5", "-1", "1_000", "0b1", "0o17", "0x", "0xg", "99999999999999999999", "1m"} {
		refused(t, fakegpu.Set(dir, "0", "power="+text), fmt.Sprintf("power is %q", text))
	}
}

func TestProfileRefusesFractions(t *testing.T) {
	if g, err := fakegpu.Describe("name: x\npower_max: 70000\nmemory: 15Gi\nsms: 0x10\n"); err != nil || g.Numbers["power_max"] != 70000 || g.Numbers["sms"] != 16 {
		t.Errorf("a good profile gives %v, %v", g, err)
	}
	_, err := fakegpu.Describe("power_max: 70.5\n")
	refused(t, err, `power_max is "70.5", must be a whole number`)
}

func TestECCCountersDoNotWrapAround(t *testing.T) {
	lib, dir, _ := open(t, fakegpu.Spec{Profile: "T4", Count: 1})
	refused(t, fakegpu.CountECC(dir, "0", true, 0), "count of errors is 0, must be 1 or more")
	check(t, fakegpu.Set(dir, "0", fmt.Sprint("ecc_dram_uncorrected_aggregate=", uint64(math.MaxUint64-1))))
	refused(t, fakegpu.CountECC(dir, "0", true, 2), "and 1 more is the most that it takes")
	if _, err := os.Stat(filepath.Join(dir, "events")); !os.IsNotExist(err) {
		t.Errorf("stat of the journal: %v, want that no event was raised", err)
	}
	check(t, fakegpu.CountECC(dir, "0", true, 1))
	check(t, fakegpu.Set(dir, "0", "ecc_sram_uncorrected_aggregate=7"))
	device, _ := lib.DeviceGetHandleByIndex(0)
	until(t, "the sum of the counters is the largest number", func() bool {
		n, r := device.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.AGGREGATE_ECC)
		return r == nvml.SUCCESS && n == math.MaxUint64
	})
}

func TestAWholeUUIDIsNotAmbiguous(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, []byte("driver 1\nnvml 1\ngpu GPU-12\nname a\ngpu GPU-1\nname b\ngpu 0\nname c\nend\n"))
	check(t, fakegpu.Set(dir, "GPU-1", "power=5"))
	check(t, fakegpu.Set(dir, "0", "power=6")) // which is no index here
	m, err := fakegpu.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	for _, g := range m.GPUs {
		got = append(got, g.Numbers["power"])
	}
	if diff := cmp.Diff([]uint64{0, 5, 6}, got); diff != "" {
		t.Errorf("power (-want +got):\n%s", diff)
	}
	refused(t, fakegpu.Set(dir, "GPU-", "power=5"), "could be one of 2")
}

func TestProcesses(t *testing.T) {
	lib, dir, _ := open(t, fakegpu.Spec{Profile: "T4", Count: 2})
	device, _ := lib.DeviceGetHandleByIndex(1)
	running := func(want ...uint32) func() bool {
		return func() bool {
			infos, r := device.GetComputeRunningProcesses()
			var got []uint32
			for _, i := range infos {
				got = append(got, i.Pid)
				if i.UsedGpuMemory != 2<<30 {
					return false
				}
			}
			return r == nvml.SUCCESS && cmp.Equal(want, got)
		}
	}
	compute := fakegpu.Process{PID: 1234, Type: "compute", Memory: 2 << 30, SM: 30, Name: "python3 train.py"}
	other := compute
	other.PID = 77
	check(t, fakegpu.SetProcesses(dir, "1", []fakegpu.Process{compute, {PID: 5, Type: "graphics", Memory: 1, Name: "X"}}, "temperature=81"))
	until(t, "one compute process is there", running(1234))
	if degrees, r := device.GetTemperature(nvml.TEMPERATURE_GPU); degrees != 81 {
		t.Errorf("temperature is %d, %v, want 81", degrees, r)
	}
	if name, r := lib.SystemGetProcessName(1234); name != compute.Name {
		t.Errorf("name of the process is %q, %v", name, r)
	}
	check(t, fakegpu.SetProcesses(dir, "1", []fakegpu.Process{other, compute}))
	until(t, "two compute processes are there", running(77, 1234))
	check(t, fakegpu.SetProcesses(dir, "1", nil))
	until(t, "no process is there", running())

	bad := compute
	bad.Type = "game"
	refused(t, fakegpu.SetProcesses(dir, "1", []fakegpu.Process{bad}), `type of process is "game"`)
	refused(t, fakegpu.SetProcesses(dir, "1", []fakegpu.Process{compute, other, compute}), "compute process 1234 is there twice")
	many := make([]fakegpu.Process, 33)
	for i := range many {
		many[i] = compute
		many[i].PID, many[i].SM = uint64(i), 0
	}
	refused(t, fakegpu.SetProcesses(dir, "1", many), "33 processes, must be 0 to 32")
}

func TestSeveralModels(t *testing.T) {
	dir := t.TempDir()
	gpus := machine(t, dir, fakegpu.Spec{Models: []fakegpu.Model{{Profile: "H100-80GB", Count: 2}, {Profile: "T4", Count: 1}, {Profile: "L4", Count: 0}}, Seed: "s"})
	var names []string
	for _, g := range gpus {
		names = append(names, g.Name)
	}
	if diff := cmp.Diff([]string{"NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3", "Tesla T4"}, names); diff != "" {
		t.Errorf("models (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(uuidsOf(machine(t, t.TempDir(), fakegpu.Spec{Profile: "T4", Count: 3, Seed: "s"})), uuidsOf(gpus)); diff != "" {
		t.Errorf("UUIDs depend on the models (-one model +several):\n%s", diff)
	}
	gpus[0].Numbers["power"] = 1
	if gpus[1].Numbers["power"] == 1 {
		t.Error("two GPUs share their numbers")
	}
	for want, models := range map[string][]fakegpu.Model{
		`"Voodoo2"`:                             {{Profile: "T4", Count: 1}, {Profile: "Voodoo2", Count: 1}},
		"count is 60, must be 0 to 4":           {{Profile: "T4", Count: 60}, {Profile: "L4", Count: 60}},
		"count is -1, must be 0 to 64":          {{Profile: "T4", Count: -1}},
		"count is 9223372036854775807, must be": {{Profile: "T4", Count: 1}, {Profile: "L4", Count: math.MaxInt}},
	} {
		_, err := fakegpu.Create(dir, fakegpu.Spec{Models: models})
		refused(t, err, want)
	}
}

// TestMIGProfiles compares what the models are divided into with what nvidia-smi
// shows on real ones, and with fillMIG's rule: 3g and 4g of Blackwell.
func TestMIGProfiles(t *testing.T) {
	for profile, want := range map[string]map[string]int{
		"A100-40GB": {"1g.5gb": 14, "1g.5gb+me": 14, "1g.10gb": 14, "2g.10gb": 28, "3g.20gb": 42, "4g.20gb": 56, "7g.40gb": 98},
		"A100-80GB": {"1g.10gb": 14, "1g.10gb+me": 14, "1g.20gb": 14, "2g.20gb": 28, "3g.40gb": 42, "4g.40gb": 56, "7g.80gb": 98},
		"H100-80GB": {"1g.10gb": 16, "1g.10gb+me": 16, "1g.20gb": 26, "2g.20gb": 32, "3g.40gb": 60, "4g.40gb": 64, "7g.80gb": 132},
		"H200":      {"1g.18gb": 16, "1g.18gb+me": 16, "1g.35gb": 26, "2g.35gb": 32, "3g.71gb": 60, "4g.71gb": 64, "7g.141gb": 132},
		"B200":      {"1g.23gb": 18, "1g.23gb+me": 18, "1g.45gb": 30, "2g.45gb": 36, "3g.90gb": 54, "4g.90gb": 72, "7g.180gb": 148},
		"GB200":     {"1g.23gb": 18, "1g.23gb+me": 18, "1g.47gb": 32, "2g.47gb": 38, "3g.93gb": 56, "4g.93gb": 76, "7g.186gb": 152},
	} {
		t.Run(profile, func(t *testing.T) {
			lib, dir, gpus := open(t, fakegpu.Spec{Profile: profile, Count: 1, Seed: profile})
			gpu, _ := lib.DeviceGetHandleByIndex(0)
			for name, sms := range want {
				check(t, fakegpu.SplitMIG(dir, "0", name))
				var mig nvml.Device
				until(t, "the MIG device is there", func() bool {
					var r nvml.Return
					mig, r = gpu.GetMigDeviceHandleByIndex(0)
					got, _ := mig.GetName()
					return r == nvml.SUCCESS && got == gpus[0].Name+" MIG "+name
				})
				if a, r := mig.GetAttributes(); r != nvml.SUCCESS || a.MultiprocessorCount != uint32(sms) {
					t.Errorf("%s has %d SMs, %v, want %d", name, a.MultiprocessorCount, r, sms)
				}
			}
			got := make(map[string]int)
			for i := range nvml.GPU_INSTANCE_PROFILE_COUNT {
				if info, r := gpu.GetGpuInstanceProfileInfoV(i).V2(); r == nvml.SUCCESS {
					got[strings.TrimPrefix(text(info.Name[:]), "MIG ")] = int(info.MultiprocessorCount)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("profiles that NVML lists (-want +got):\n%s", diff)
			}
			refused(t, fakegpu.SplitMIG(dir, "0", "1g.7gb"), `MIG profile is "1g.7gb"; those of `+gpus[0].Name+` are 1g.`)
		})
	}
	dir := t.TempDir()
	machine(t, dir, fakegpu.Spec{Profile: "H200", Count: 1})
	check(t, fakegpu.SplitMIG(dir, "0", "3g.71gb", "3g.71gb"))
	refused(t, fakegpu.SplitMIG(dir, "0", "3g.71gb", "3g.71gb", "1g.18gb"), "no room")
}

func TestInjectRefusesFunctionsThatThereAreNot(t *testing.T) {
	dir := t.TempDir()
	machine(t, dir, fakegpu.Spec{Profile: "T4", Count: fakegpu.MaxGPUs})
	for name, hint := range map[string]string{
		"nvmlDeviceGetNmae": "; did you mean nvmlDeviceGetName?", "nvmldevicegetname": "; did you mean nvmlDeviceGetName?",
		"DeviceGetName": "; did you mean nvmlDeviceGetName?", "GetName": "; did you mean nvmlDeviceGetName?",
		"nvmlDeviceGetPowerUsage_v2": "; did you mean nvmlDeviceGetPowerUsage?",
		"":                           "or *", "nvml": "or *", "reboot": "or *", strings.Repeat("nvml", 1000): "or *",
	} {
		err := fakegpu.Inject(dir, "all", fakegpu.Fault{Function: name, Code: 3})
		refused(t, err, "must be the name of one of nvml.h")
		if err != nil && !strings.HasSuffix(err.Error(), hint) {
			t.Errorf("the error for %.20q is %v, want %q at its end", name, err, hint)
		}
	}
}

func TestFaultsOfAllOfManyGPUs(t *testing.T) {
	lib, dir, _ := open(t, fakegpu.Spec{Profile: "T4", Count: fakegpu.MaxGPUs})
	check(t, fakegpu.Inject(dir, "all", fakegpu.Fault{Function: "nvmlDeviceGetPowerUsage", Code: uint64(nvml.ERROR_NO_DATA)}))
	check(t, fakegpu.Inject(dir, "all", fakegpu.Fault{Function: "nvmlDeviceGetName", Code: uint64(nvml.ERROR_TIMEOUT)}))
	check(t, fakegpu.Inject(dir, "63", fakegpu.Fault{Function: "nvmlDeviceGetName", Code: uint64(nvml.ERROR_IN_USE)}))
	for i := range fakegpu.MaxGPUs {
		device, _ := lib.DeviceGetHandleByIndex(i)
		want := nvml.ERROR_TIMEOUT
		if i == 63 {
			want = nvml.ERROR_IN_USE
		}
		until(t, "the faults are there", func() bool { _, r := device.GetName(); return r == want })
		if _, r := device.GetPowerUsage(); r != nvml.ERROR_NO_DATA {
			t.Errorf("GPU %d: GetPowerUsage gives %v", i, r)
		}
	}
}

// TestAGPUThatWasRemovedHasNoFault: it answers GPU_IS_LOST, and not what is meant
// for a GPU that is left.
func TestAGPUThatWasRemovedHasNoFault(t *testing.T) {
	lib, dir, _ := open(t, fakegpu.Spec{Profile: "T4", Count: 3})
	var devices []nvml.Device
	for i := range 3 {
		device, _ := lib.DeviceGetHandleByIndex(i)
		devices = append(devices, device)
	}
	check(t, fakegpu.Inject(dir, "all", fakegpu.Fault{Function: "nvmlDeviceGetName", Code: uint64(nvml.ERROR_TIMEOUT)}))
	check(t, fakegpu.Remove(dir, "1"))
	for i, want := range []nvml.Return{nvml.ERROR_TIMEOUT, nvml.ERROR_GPU_IS_LOST, nvml.ERROR_TIMEOUT} {
		until(t, fmt.Sprintf("GPU %d answers %v", i, want), func() bool { _, r := devices[i].GetName(); return r == want })
	}
}
