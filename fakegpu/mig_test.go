package fakegpu_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// devices tells of the MIG devices of the first GPU what nvidia-smi prints of
// them: name, GPU instance, placement, memory in MiB, and the engines.
func devices(t *testing.T, lib nvml.Interface) (all []string) {
	t.Helper()
	gpu, _ := lib.DeviceGetHandleByIndex(0)
	name, _ := gpu.GetName()
	for i := 0; ; i++ {
		device, r := gpu.GetMigDeviceHandleByIndex(i)
		if r != nvml.SUCCESS {
			return all
		}
		full, _ := device.GetName()
		gi, _ := device.GetGpuInstanceId()
		instance, r := gpu.GetGpuInstanceById(gi)
		if r != nvml.SUCCESS {
			t.Fatalf("GetGpuInstanceById(%d): %v", gi, r)
		}
		info, _ := instance.GetInfo()
		memory, _ := device.GetMemoryInfo()
		a, r := device.GetAttributes()
		if r != nvml.SUCCESS || a.MemorySizeMB != memory.Total>>20 {
			t.Errorf("GetAttributes: %d MiB, %v, want %d", a.MemorySizeMB, r, memory.Total>>20)
		}
		all = append(all, fmt.Sprintf("%s: id %d, %d:%d, %d MiB, %d SM, %d CE, %d DEC, %d JPG, %d OFA", strings.TrimPrefix(full, name+" MIG "), info.Id,
			info.Placement.Start, info.Placement.Size, memory.Total>>20, a.MultiprocessorCount, a.SharedCopyEngineCount, a.SharedDecoderCount,
			a.SharedJpegCount, a.SharedOfaCount))
	}
}

// TestMIGDevicesAreThoseOfRealGPUs has what nvidia-smi shows of real ones: mig
// -lgip for the sizes and engines, and mig -lgi for ids and placements.
func TestMIGDevicesAreThoseOfRealGPUs(t *testing.T) {
	for _, test := range []struct {
		profile, geometry string
		want              []string
	}{
		{"A100-40GB", "7g.40gb", []string{"7g.40gb: id 0, 0:8, 40192 MiB, 98 SM, 7 CE, 5 DEC, 1 JPG, 1 OFA"}},
		{"A100-40GB", "1g.5gb 2g.10gb 4g.20gb", []string{
			"4g.20gb: id 1, 0:4, 19968 MiB, 56 SM, 4 CE, 2 DEC, 0 JPG, 0 OFA",
			"2g.10gb: id 5, 4:2, 9856 MiB, 28 SM, 2 CE, 1 DEC, 0 JPG, 0 OFA",
			"1g.5gb: id 13, 6:1, 4864 MiB, 14 SM, 1 CE, 0 DEC, 0 JPG, 0 OFA",
		}},
		{"A100-80GB", "3g.40gb 3g.40gb", []string{
			"3g.40gb: id 1, 0:4, 40192 MiB, 42 SM, 3 CE, 2 DEC, 0 JPG, 0 OFA", "3g.40gb: id 2, 4:4, 40192 MiB, 42 SM, 3 CE, 2 DEC, 0 JPG, 0 OFA",
		}},
		{"H100-80GB", "1g.10gb 1g.10gb+me 2g.20gb 3g.40gb", []string{ // all-balanced
			"3g.40gb: id 2, 4:4, 40448 MiB, 60 SM, 3 CE, 3 DEC, 3 JPG, 0 OFA",
			"2g.20gb: id 3, 0:2, 20096 MiB, 32 SM, 2 CE, 2 DEC, 2 JPG, 0 OFA",
			"1g.10gb: id 9, 2:1, 9984 MiB, 16 SM, 1 CE, 1 DEC, 1 JPG, 0 OFA",
			"1g.10gb+me: id 10, 3:1, 9984 MiB, 16 SM, 1 CE, 1 DEC, 1 JPG, 1 OFA",
		}},
		{"H100-80GB", "1g.20gb 1g.20gb 1g.20gb 1g.20gb", []string{
			"1g.20gb: id 3, 0:2, 20096 MiB, 26 SM, 1 CE, 1 DEC, 1 JPG, 0 OFA", "1g.20gb: id 4, 2:2, 20096 MiB, 26 SM, 1 CE, 1 DEC, 1 JPG, 0 OFA",
			"1g.20gb: id 5, 4:2, 20096 MiB, 26 SM, 1 CE, 1 DEC, 1 JPG, 0 OFA", "1g.20gb: id 6, 6:2, 20096 MiB, 26 SM, 1 CE, 1 DEC, 1 JPG, 0 OFA",
		}},
		{"H100-80GB", "7g.80gb", []string{"7g.80gb: id 0, 0:8, 81152 MiB, 132 SM, 8 CE, 7 DEC, 7 JPG, 1 OFA"}},
		{"H200", "4g.71gb", []string{"4g.71gb: id 1, 0:4, 71424 MiB, 64 SM, 4 CE, 4 DEC, 4 JPG, 0 OFA"}},
		{"B200", "2g.45gb", []string{"2g.45gb: id 3, 0:2, 45312 MiB, 36 SM, 4 CE, 2 DEC, 2 JPG, 0 OFA"}},
		{"GB200", "1g.47gb", []string{"1g.47gb: id 3, 0:2, 46592 MiB, 32 SM, 2 CE, 1 DEC, 1 JPG, 0 OFA"}},
	} {
		t.Run(test.profile+" "+test.geometry, func(t *testing.T) {
			lib, dir, _ := open(t, fakegpu.Spec{Profile: test.profile, Count: 1})
			check(t, fakegpu.SplitMIG(dir, "0", strings.Fields(test.geometry)...))
			until(t, "it is divided", func() bool { return len(devices(t, lib)) > 0 })
			if diff := cmp.Diff(test.want, devices(t, lib)); diff != "" {
				t.Errorf("MIG devices (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMIGHasNoRoom(t *testing.T) {
	dir := t.TempDir()
	machine(t, dir, fakegpu.Spec{Profile: "H100-80GB", Count: 1})
	for _, geometry := range []string{
		"4g.40gb 4g.40gb", "7g.80gb 1g.10gb", "3g.40gb 3g.40gb 1g.10gb", "2g.20gb 2g.20gb 2g.20gb 2g.20gb", "1g.20gb 1g.20gb 1g.20gb 1g.20gb 1g.10gb",
		"1g.10gb+me 1g.10gb+me", strings.TrimSpace(strings.Repeat("1g.10gb ", 8)), "3g.40gb 4g.40gb 1g.10gb",
	} {
		refused(t, fakegpu.SplitMIG(dir, "0", strings.Fields(geometry)...), "no room for "+geometry)
	}
	for _, geometry := range []string{"3g.40gb 4g.40gb", "2g.20gb 2g.20gb 2g.20gb 1g.10gb", strings.TrimSpace(strings.Repeat("1g.10gb ", 7))} {
		check(t, fakegpu.SplitMIG(dir, "0", strings.Fields(geometry)...))
	}
}

// TestPlacementsAndCapacity is what those ask who divide a GPU further.
func TestPlacementsAndCapacity(t *testing.T) {
	lib, dir, _ := open(t, fakegpu.Spec{Profile: "H100-80GB", Count: 1})
	gpu, _ := lib.DeviceGetHandleByIndex(0)
	check(t, fakegpu.SplitMIG(dir, "0", "3g.40gb", "1g.10gb+me"))
	until(t, "it is divided", func() bool { return len(devices(t, lib)) == 2 })
	for id, want := range map[int]string{
		19: "0 1 2 3 4 5 6, 2 left", 20: "0 1 2 3 4 5 6, 0 left", 15: "0 2 4 6, 1 left", 14: "0 2 4, 0 left",
		9: "0 4, 0 left", 5: "0, 0 left", 0: "0, 0 left",
	} {
		info := nvml.GpuInstanceProfileInfo{Id: uint32(id)}
		placements, r := gpu.GetGpuInstancePossiblePlacements(&info)
		if r != nvml.SUCCESS {
			t.Fatalf("GetGpuInstancePossiblePlacements(%d): %v", id, r)
		}
		var starts []string
		for _, p := range placements {
			starts = append(starts, fmt.Sprint(p.Start))
		}
		left, r := gpu.GetGpuInstanceRemainingCapacity(&info)
		if got := fmt.Sprintf("%s, %d left", strings.Join(starts, " "), left); r != nvml.SUCCESS || got != want {
			t.Errorf("profile %d: %s, %v, want %s", id, got, r, want)
		}
	}
}
