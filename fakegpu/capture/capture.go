// Package capture reads a GPU through NVML and writes the profile of a fake one
// that is like it.
package capture

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"sigs.k8s.io/yaml"
)

// Profile reads the GPU with an index or UUID and returns a profile that
// fakegpu.LoadProfile takes. What NVML does not know of it is left out.
func Profile(lib nvml.Interface, gpu string) ([]byte, error) {
	if r := lib.Init(); r != nvml.SUCCESS {
		return nil, fmt.Errorf("start NVML: %s; is there a driver, or a FAKEGPU_STATE with GPUs?", nvml.ErrorString(r))
	}
	defer lib.Shutdown()
	device, err := find(lib, gpu)
	if err != nil {
		return nil, err
	}
	if mode, _, r := device.GetMigMode(); r == nvml.SUCCESS && mode == nvml.DEVICE_MIG_ENABLE {
		return nil, fmt.Errorf("GPU %s is divided into MIG devices, and hides what it is; switch MIG off first", gpu)
	}
	var b bytes.Buffer
	name, _ := device.GetName()
	driver, _ := lib.SystemGetDriverVersion()
	fmt.Fprintf(&b, "# %s.\n# *: fakegpu capture, through NVML of driver %s on %s.\n", name, driver, time.Now().UTC().Format(time.DateOnly))
	for _, f := range slices.Concat(texts(), figures(), clocks(), instances()) {
		value, r := f.read(device)
		switch {
		case missing(r) || r == nvml.SUCCESS && f.zero(value):
			continue
		case r != nvml.SUCCESS:
			return nil, fmt.Errorf("read %s of GPU %s: %s", f.key, gpu, nvml.ErrorString(r))
		}
		line, err := yaml.Marshal(map[string]any{f.key: value})
		if err != nil {
			return nil, err
		}
		b.Write(line)
	}
	return b.Bytes(), nil
}

// find takes an index or a UUID.
func find(lib nvml.Interface, gpu string) (nvml.Device, error) {
	if strings.HasPrefix(gpu, "GPU-") {
		device, r := lib.DeviceGetHandleByUUID(gpu)
		if r != nvml.SUCCESS {
			return nil, fmt.Errorf("find GPU %s: %s; nvidia-smi -L lists them", gpu, nvml.ErrorString(r))
		}
		return device, nil
	}
	var index int
	if n, err := fmt.Sscanf(gpu+" end", "%d end", &index); n != 1 || err != nil {
		return nil, fmt.Errorf("GPU is %.120q, want an index or a UUID; nvidia-smi -L lists them", gpu)
	}
	device, r := lib.DeviceGetHandleByIndex(index)
	if r != nvml.SUCCESS {
		return nil, fmt.Errorf("find GPU %d: %s; nvidia-smi -L lists them", index, nvml.ErrorString(r))
	}
	return device, nil
}

// missing tells whether a GPU does not have something at all.
func missing(r nvml.Return) bool {
	return r == nvml.ERROR_NOT_SUPPORTED || r == nvml.ERROR_FUNCTION_NOT_FOUND || r == nvml.ERROR_INVALID_ARGUMENT || r == nvml.ERROR_DEPRECATED
}

// figure is a key of a profile.
type figure struct {
	key  string
	read func(nvml.Device) (any, nvml.Return)
}

// zero tells whether a value is what a profile without the key has.
func (f figure) zero(value any) bool { return value == uint64(0) || value == "" }

// of reads a figure that one call gives.
func of[V ~int | ~int32 | ~uint8 | ~uint32 | ~uint64](key string, get func(nvml.Device) (V, nvml.Return)) figure {
	return figure{key, func(d nvml.Device) (any, nvml.Return) {
		v, r := get(d)
		return uint64(v), r
	}}
}

func texts() []figure {
	text := func(key string, get func(nvml.Device) (string, nvml.Return)) figure {
		return figure{key, func(d nvml.Device) (any, nvml.Return) {
			s, r := get(d)
			return s, r
		}}
	}
	return []figure{text("name", nvml.Device.GetName), text("vbios", nvml.Device.GetVbiosVersion), text("part_number", nvml.Device.GetBoardPartNumber)}
}

// figures are what a model is, but for its clocks.
func figures() []figure {
	return []figure{
		of("brand", nvml.Device.GetBrand),
		of("architecture", nvml.Device.GetArchitecture),
		of("cc_major", func(d nvml.Device) (int, nvml.Return) { major, _, r := d.GetCudaComputeCapability(); return major, r }),
		of("cc_minor", func(d nvml.Device) (int, nvml.Return) { _, minor, r := d.GetCudaComputeCapability(); return minor, r }),
		of("pci_device", func(d nvml.Device) (uint32, nvml.Return) { p, r := d.GetPciInfo(); return p.PciDeviceId, r }),
		of("pci_subsystem", func(d nvml.Device) (uint32, nvml.Return) { p, r := d.GetPciInfo(); return p.PciSubSystemId, r }),
		of("cores", nvml.Device.GetNumGpuCores),
		of("sms", multiprocessors),
		of("bus_width", nvml.Device.GetMemoryBusWidth),
		of("memory", func(d nvml.Device) (uint64, nvml.Return) { m, r := d.GetMemoryInfo(); return m.Total, r }),
		of("bar1", func(d nvml.Device) (uint64, nvml.Return) { m, r := d.GetBAR1MemoryInfo(); return m.Bar1Total, r }),
		of("fans", nvml.Device.GetNumFans),
		of("temperature_slowdown", threshold(nvml.TEMPERATURE_THRESHOLD_SLOWDOWN, nvml.FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT)),
		of("temperature_shutdown", threshold(nvml.TEMPERATURE_THRESHOLD_SHUTDOWN, nvml.FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT)),
		of("temperature_max", threshold(nvml.TEMPERATURE_THRESHOLD_GPU_MAX, nvml.FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT)),
		of("power_limit", nvml.Device.GetPowerManagementLimit),
		of("power_default", nvml.Device.GetPowerManagementDefaultLimit),
		of("power_min", func(d nvml.Device) (uint32, nvml.Return) {
			least, _, r := d.GetPowerManagementLimitConstraints()
			return least, r
		}),
		of("power_max", func(d nvml.Device) (uint32, nvml.Return) {
			_, most, r := d.GetPowerManagementLimitConstraints()
			return most, r
		}),
		of("pcie_gen_max", nvml.Device.GetMaxPcieLinkGeneration),
		of("pcie_width_max", nvml.Device.GetMaxPcieLinkWidth),
		of("ecc", func(d nvml.Device) (nvml.EnableState, nvml.Return) { now, _, r := d.GetEccMode(); return now, r }),
		of("nvlinks", links),
		of("nvlink_version", func(d nvml.Device) (uint32, nvml.Return) { return d.GetNvLinkVersion(0) }),
	}
}

func clocks() []figure {
	most := func(clock nvml.ClockType) func(nvml.Device) (uint32, nvml.Return) {
		return func(d nvml.Device) (uint32, nvml.Return) { return d.GetMaxClockInfo(clock) }
	}
	return []figure{
		of("max_clock_graphics", most(nvml.CLOCK_GRAPHICS)), of("max_clock_sm", most(nvml.CLOCK_SM)),
		of("max_clock_memory", most(nvml.CLOCK_MEM)), of("max_clock_video", most(nvml.CLOCK_VIDEO)),
	}
}

// instances are what MIG would make of the GPU.
func instances() []figure {
	most := func(d nvml.Device) (uint32, nvml.Return) {
		i, r := d.GetGpuInstanceProfileInfo(nvml.GPU_INSTANCE_PROFILE_1_SLICE)
		return i.InstanceCount, r
	}
	figures := []figure{of("mig_max", most)}
	for _, profile := range []struct {
		name string
		is   int
	}{
		{"1g", nvml.GPU_INSTANCE_PROFILE_1_SLICE}, {"1g_double", nvml.GPU_INSTANCE_PROFILE_1_SLICE_REV2},
		{"2g", nvml.GPU_INSTANCE_PROFILE_2_SLICE}, {"3g", nvml.GPU_INSTANCE_PROFILE_3_SLICE},
		{"4g", nvml.GPU_INSTANCE_PROFILE_4_SLICE}, {"7g", nvml.GPU_INSTANCE_PROFILE_7_SLICE},
	} {
		info := func(d nvml.Device) (nvml.GpuInstanceProfileInfo, nvml.Return) { return d.GetGpuInstanceProfileInfo(profile.is) }
		figures = append(figures,
			of("mig_sms_"+profile.name, func(d nvml.Device) (uint32, nvml.Return) { i, r := info(d); return i.MultiprocessorCount, r }),
			of("mig_mb_"+profile.name, func(d nvml.Device) (uint64, nvml.Return) { i, r := info(d); return i.MemorySizeMB, r }))
	}
	return figures
}

// multiprocessors follows from the cores: NVML tells it of MIG devices only. Up
// to 8.0 a multiprocessor has 64 cores, from then on 128 (CUDA C++ Programming
// Guide, compute capabilities).
func multiprocessors(d nvml.Device) (int, nvml.Return) {
	cores, r := d.GetNumGpuCores()
	if r != nvml.SUCCESS {
		return 0, r
	}
	major, minor, r := d.GetCudaComputeCapability()
	if major*10+minor <= 80 {
		return cores / 64, r
	}
	return cores / 128, r
}

// links counts the NVLinks that are up.
func links(d nvml.Device) (n int, r nvml.Return) {
	for link := range nvml.NVLINK_MAX_LINKS {
		if state, r := d.GetNvLinkState(link); r == nvml.SUCCESS && state == nvml.FEATURE_ENABLED {
			n++
		}
	}
	return n, nvml.SUCCESS
}

// threshold is a limit of the temperature. Drivers since Hopper give it as the
// distance to the limit of the GPU, as they do the temperature.
func threshold(kind nvml.TemperatureThresholds, distance uint32) func(nvml.Device) (uint32, nvml.Return) {
	return func(d nvml.Device) (uint32, nvml.Return) {
		t, r := d.GetTemperatureThreshold(kind)
		if !missing(r) {
			return t, r
		}
		values := []nvml.FieldValue{{FieldId: distance}}
		margin, r := d.GetMarginTemperature()
		if r != nvml.SUCCESS {
			return 0, r
		}
		now, r := d.GetTemperature(nvml.TEMPERATURE_GPU)
		if r == nvml.SUCCESS {
			r = d.GetFieldValues(values)
		}
		if r == nvml.SUCCESS {
			r = nvml.Return(values[0].NvmlReturn)
		}
		if r != nvml.SUCCESS {
			return 0, r
		}
		return uint32(int32(now) + margin.MarginTemperature - int32(int8(values[0].Value[0]))), nvml.SUCCESS
	}
}
