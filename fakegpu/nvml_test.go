package fakegpu_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// open makes a machine and starts go-nvml on it, until the end of the test.
func open(t *testing.T, spec fakegpu.Spec) (lib nvml.Interface, dir string, gpus []fakegpu.GPU) {
	t.Helper()
	dir = t.TempDir()
	gpus = machine(t, dir, spec)
	t.Setenv(fakegpu.EnvState, dir)
	lib = nvml.New(nvml.WithLibraryPath(files.library))
	if r := lib.Init(); r != nvml.SUCCESS {
		t.Fatalf("Init: %v", r)
	}
	t.Cleanup(func() {
		if r := lib.Shutdown(); r != nvml.SUCCESS {
			t.Errorf("Shutdown: %v", r)
		}
	})
	return lib, dir, gpus
}

func uuidsOf(gpus []fakegpu.GPU) []string {
	var all []string
	for _, g := range gpus {
		all = append(all, g.UUID)
	}
	return all
}

// uuids asks the library for the GPUs, in its order.
func uuids(t *testing.T, lib nvml.Interface) []string {
	t.Helper()
	count, r := lib.DeviceGetCount()
	if r != nvml.SUCCESS {
		t.Fatalf("DeviceGetCount: %v", r)
	}
	var all []string
	for i := range count {
		device, r := lib.DeviceGetHandleByIndex(i)
		if r != nvml.SUCCESS {
			t.Fatalf("DeviceGetHandleByIndex(%d): %v", i, r)
		}
		uuid, r := device.GetUUID()
		if r != nvml.SUCCESS {
			t.Fatalf("GetUUID of %d: %v", i, r)
		}
		all = append(all, uuid)
	}
	return all
}

func TestGPUsAreTheOnesThatWereCreated(t *testing.T) {
	for _, profile := range fakegpu.Profiles() {
		t.Run(profile, func(t *testing.T) {
			lib, _, gpus := open(t, fakegpu.Spec{Profile: profile, Count: 2, Seed: profile})
			if diff := cmp.Diff(uuidsOf(gpus), uuids(t, lib)); diff != "" {
				t.Errorf("UUIDs (-want +got):\n%s", diff)
			}
			device, r := lib.DeviceGetHandleByUUID(gpus[1].UUID)
			if r != nvml.SUCCESS {
				t.Fatalf("DeviceGetHandleByUUID: %v", r)
			}
			if diff := cmp.Diff(wanted(gpus[1], 1), answers(t, device)); diff != "" {
				t.Errorf("the second GPU (-want +got):\n%s", diff)
			}
		})
	}
}

// wanted is what NVML must say about the GPU at an index.
func wanted(g fakegpu.GPU, index int) map[string]any {
	p := g.Numbers
	total, reserved := p["memory"], p["memory_reserved"]
	w := map[string]any{
		"name": g.Name, "index": index, "minor": index,
		"memory": nvml.Memory{Total: total, Free: total - reserved, Used: reserved},
		"bus":    uint32(index + 1), "bus id": "00000000:02:00.0", "legacy bus id": "0000:02:00.0",
		"device id": uint32(p["pci_device"]), "subsystem": uint32(p["pci_subsystem"]),
		"major": int(p["cc_major"]), "minor version": int(p["cc_minor"]),
		"architecture": nvml.DeviceArchitecture(p["architecture"]), "brand": nvml.BrandType(p["brand"]),
		"temperature": uint32(p["temperature"]), "power": uint32(p["power"]),
		"utilization": nvml.Utilization{}, "processes": 0, "ecc errors": uint64(0), "mig": nvml.SUCCESS,
		"remapped rows": nvml.SUCCESS, "retired pages": nvml.ERROR_NOT_SUPPORTED,
	}
	if p["architecture"] < nvml.DEVICE_ARCH_AMPERE { // pages were retired before rows were remapped
		w["remapped rows"], w["retired pages"] = w["retired pages"], w["remapped rows"]
	}
	if p["mig_max"] == 0 {
		w["mig"] = nvml.ERROR_NOT_SUPPORTED
	}
	if p["ecc"] == 0 {
		w["ecc errors"], w["remapped rows"], w["retired pages"] = nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_NOT_SUPPORTED
	}
	return w
}

func answers(t *testing.T, d nvml.Device) map[string]any {
	t.Helper()
	a := make(map[string]any)
	add := func(key string, value any, r nvml.Return) {
		if r != nvml.SUCCESS {
			value = r
		}
		a[key] = value
	}
	name, r := d.GetName()
	add("name", name, r)
	index, r := d.GetIndex()
	add("index", index, r)
	minor, r := d.GetMinorNumber()
	add("minor", minor, r)
	memory, r := d.GetMemoryInfo()
	add("memory", memory, r)
	pci, r := d.GetPciInfo()
	add("bus", pci.Bus, r)
	add("bus id", text(pci.BusId[:]), r)
	add("legacy bus id", text(pci.BusIdLegacy[:]), r)
	add("device id", pci.PciDeviceId, r)
	add("subsystem", pci.PciSubSystemId, r)
	major, small, r := d.GetCudaComputeCapability()
	add("major", major, r)
	add("minor version", small, r)
	architecture, r := d.GetArchitecture()
	add("architecture", architecture, r)
	brand, r := d.GetBrand()
	add("brand", brand, r)
	temperature, r := d.GetTemperature(nvml.TEMPERATURE_GPU)
	add("temperature", temperature, r)
	power, r := d.GetPowerUsage()
	add("power", power, r)
	utilization, r := d.GetUtilizationRates()
	add("utilization", utilization, r)
	processes, r := d.GetComputeRunningProcesses()
	add("processes", len(processes), r)
	ecc, r := d.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC)
	add("ecc errors", ecc, r)
	_, _, r = d.GetMigMode()
	add("mig", nvml.SUCCESS, r)
	_, _, _, _, r = d.GetRemappedRows()
	add("remapped rows", nvml.SUCCESS, r)
	_, r = d.GetRetiredPages(nvml.PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR)
	add("retired pages", nvml.SUCCESS, r)
	return a
}

// text reads the C text of NVML's structs, whose element type depends on the
// version of go-nvml.
func text[C int8 | uint8](chars []C) string {
	var s []byte
	for _, c := range chars {
		if c == 0 {
			break
		}
		s = append(s, byte(c))
	}
	return string(s)
}

func TestInitErrors(t *testing.T) {
	full := func(code uint64) func(*testing.T) string {
		return func(t *testing.T) string {
			dir := t.TempDir()
			machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 1, InitError: code})
			return dir
		}
	}
	for _, test := range []struct {
		name string
		dir  func(*testing.T) string
		want nvml.Return
	}{
		{"no permission", full(4), nvml.ERROR_NO_PERMISSION},
		{"driver not loaded", full(9), nvml.ERROR_DRIVER_NOT_LOADED},
		{"versions differ", full(18), nvml.ERROR_LIB_RM_VERSION_MISMATCH},
		{"directory not named", func(*testing.T) string { return "" }, nvml.ERROR_DRIVER_NOT_LOADED},
		{"directory empty", (*testing.T).TempDir, nvml.ERROR_DRIVER_NOT_LOADED},
		{"directory missing", func(t *testing.T) string { return filepath.Join(t.TempDir(), "no") }, nvml.ERROR_DRIVER_NOT_LOADED},
		{"healed", full(0), nvml.SUCCESS},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv(fakegpu.EnvState, test.dir(t))
			lib := nvml.New(nvml.WithLibraryPath(files.library))
			got := lib.Init()
			if got == nvml.SUCCESS {
				defer lib.Shutdown()
			}
			if got != test.want {
				t.Errorf("Init gives %v, want %v", got, test.want)
			}
		})
	}
}

// TestErrorStrings has the texts of NVML, by which programs and people know them.
// TestExec has a client that is not told where its library and state are.
func TestExec(t *testing.T) {
	var state string
	err := fakegpu.Exec(files.library, fakegpu.Spec{Profile: "T4", Count: 3}, func(environment []string) error {
		_, state, _ = strings.Cut(environment[0], "=")
		gpus, err := fakegpu.Load(state)
		if err != nil {
			return err
		}
		_, err = outputWith(append(os.Environ(), environment...), files.client, "libnvidia-ml.so.1", "now", "check", gpus.GPUs[0].UUID, "3")
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(state); !os.IsNotExist(err) {
		t.Errorf("what is left of the GPUs: %v", err)
	}
}

func TestErrorStrings(t *testing.T) {
	lib, _, _ := open(t, fakegpu.Spec{Profile: "T4", Count: 1})
	for code, want := range map[nvml.Return]string{
		0: "Success", 1: "Uninitialized", 2: "Invalid Argument", 3: "Not Supported", 4: "Insufficient Permissions",
		5: "Already Initialized", 6: "Not Found", 7: "Insufficient Size", 8: "Insufficient External Power", 9: "Driver Not Loaded",
		10: "Timeout", 11: "Interrupt Request Issue", 12: "NVML Shared Library Not Found", 13: "Function Not Found",
		14: "Corrupted infoROM", 15: "GPU is lost", 16: "GPU requires restart", 17: "The operating system has blocked the request.",
		18: "Driver/library version mismatch", 19: "In use by another client", 20: "Insufficient Memory", 21: "No data",
		22: "The requested vgpu operation is not available on target device, because ECC is enabled", 23: "Insufficient Resources",
		24: "Frequency not supported", 25: "Argument version mismatch", 26: "Deprecated", 27: "Not Ready", 28: "GPU not found",
		29: "Invalid state", 30: "Reset type not supported", 999: "Unknown Error", 500: "Unknown Error",
	} {
		if got := lib.ErrorString(code); got != want {
			t.Errorf("the text of %d is %q, want %q", code, got, want)
		}
	}
}

func TestOpenLibrarySeesChanges(t *testing.T) {
	lib, dir, before := open(t, fakegpu.Spec{Profile: "T4", Count: 3, Seed: "change"})
	last, r := lib.DeviceGetHandleByIndex(2)
	if r != nvml.SUCCESS {
		t.Fatalf("DeviceGetHandleByIndex: %v", r)
	}
	count := func(want int) func() bool {
		return func() bool {
			got, r := lib.DeviceGetCount()
			return r == nvml.SUCCESS && got == want
		}
	}

	machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 1, Seed: "change"})
	until(t, "one GPU is left", count(1))
	if diff := cmp.Diff(uuidsOf(before[:1]), uuids(t, lib)); diff != "" {
		t.Errorf("UUIDs that are left (-want +got):\n%s", diff)
	}
	if _, r := last.GetUUID(); r != nvml.ERROR_GPU_IS_LOST {
		t.Errorf("GetUUID of a GPU that was removed: %v, want %v", r, nvml.ERROR_GPU_IS_LOST)
	}
	if _, r := lib.DeviceGetHandleByIndex(2); r != nvml.ERROR_INVALID_ARGUMENT {
		t.Errorf("DeviceGetHandleByIndex of a GPU that was removed: %v, want %v", r, nvml.ERROR_INVALID_ARGUMENT)
	}

	machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 4, Seed: "change"})
	until(t, "four GPUs are there", count(4))
	if uuid, r := last.GetUUID(); r != nvml.SUCCESS || uuid != before[2].UUID {
		t.Errorf("GetUUID of a GPU that came back: %s, %v, want %s", uuid, r, before[2].UUID)
	}
}

// TestChangesWhileManyAsk has readers that must only ever see whole states.
func TestChangesWhileManyAsk(t *testing.T) {
	lib, dir, _ := open(t, fakegpu.Spec{Profile: "T4", Count: 1, Seed: "many"})
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if n, r := lib.DeviceGetCount(); r != nvml.SUCCESS || n < 1 || n > 8 {
					t.Errorf("DeviceGetCount: %d, %v, want 1 to 8", n, r)
					return
				}
				device, r := lib.DeviceGetHandleByIndex(0)
				if r != nvml.SUCCESS {
					t.Errorf("DeviceGetHandleByIndex(0): %v", r)
					return
				}
				if _, r := device.GetName(); r != nvml.SUCCESS {
					t.Errorf("GetName: %v", r)
					return
				}
			}
		})
	}
	for n := range 8 {
		if _, err := fakegpu.Create(dir, fakegpu.Spec{Profile: "T4", Count: n + 1, Seed: "many"}); err != nil {
			t.Error(err)
		}
		until(t, "the new count is seen", func() bool {
			got, r := lib.DeviceGetCount()
			return r == nvml.SUCCESS && got == n+1
		})
	}
	close(done)
	wg.Wait()
}

// until waits for something that the library must soon see.
func until(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("a minute passed before %s", what)
		}
	}
}
