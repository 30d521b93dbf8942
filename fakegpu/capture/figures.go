package capture

import "github.com/NVIDIA/go-nvml/pkg/nvml"

func texts() []figure {
	text := func(key string, get func(nvml.Device) (string, nvml.Return)) figure {
		return figure{key: key, read: func(d nvml.Device) (any, nvml.Return) {
			s, r := get(d)
			return s, r
		}}
	}
	return []figure{
		text("name", nvml.Device.GetName), text("vbios", nvml.Device.GetVbiosVersion), text("part_number", nvml.Device.GetBoardPartNumber),
		text("inforom_image", nvml.Device.GetInforomImageVersion),
		text("inforom_ecc", func(d nvml.Device) (string, nvml.Return) { return d.GetInforomVersion(nvml.INFOROM_ECC) }),
		text("inforom_oem", func(d nvml.Device) (string, nvml.Return) { return d.GetInforomVersion(nvml.INFOROM_OEM) }),
	}
}

// figures are what a model is, but for its clocks.
func figures(has func(function string) bool) []figure {
	threshold := func(kind nvml.TemperatureThresholds, distance uint32) func(nvml.Device) (uint32, nvml.Return) {
		return limit(kind, distance, has("nvmlDeviceGetMarginTemperature"))
	}
	return []figure{
		of("brand", nvml.Device.GetBrand),
		since("nvmlDeviceGetArchitecture", of("architecture", nvml.Device.GetArchitecture)),
		of("cc_major", func(d nvml.Device) (int, nvml.Return) { major, _, r := d.GetCudaComputeCapability(); return major, r }),
		of("cc_minor", func(d nvml.Device) (int, nvml.Return) { _, minor, r := d.GetCudaComputeCapability(); return minor, r }),
		of("pci_device", func(d nvml.Device) (uint32, nvml.Return) { p, r := d.GetPciInfo(); return p.PciDeviceId, r }),
		of("pci_subsystem", func(d nvml.Device) (uint32, nvml.Return) { p, r := d.GetPciInfo(); return p.PciSubSystemId, r }),
		since("nvmlDeviceGetNumGpuCores", of("cores", nvml.Device.GetNumGpuCores)),
		since("nvmlDeviceGetNumGpuCores", of("sms", multiprocessors)),
		since("nvmlDeviceGetMemoryBusWidth", of("bus_width", nvml.Device.GetMemoryBusWidth)),
		of("memory", func(d nvml.Device) (uint64, nvml.Return) { m, r := d.GetMemoryInfo(); return m.Total, r }),
		of("bar1", func(d nvml.Device) (uint64, nvml.Return) { m, r := d.GetBAR1MemoryInfo(); return m.Bar1Total, r }),
		since("nvmlDeviceGetNumFans", of("fans", nvml.Device.GetNumFans)),
		of("temperature_slowdown", threshold(nvml.TEMPERATURE_THRESHOLD_SLOWDOWN, nvml.FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT)),
		of("temperature_shutdown", threshold(nvml.TEMPERATURE_THRESHOLD_SHUTDOWN, nvml.FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT)),
		of("temperature_max", threshold(nvml.TEMPERATURE_THRESHOLD_GPU_MAX, nvml.FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT)),
		of("temperature_memory_max", func(d nvml.Device) (uint32, nvml.Return) {
			return d.GetTemperatureThreshold(nvml.TEMPERATURE_THRESHOLD_MEM_MAX)
		}),
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
		since("nvmlDeviceGetGpuMaxPcieLinkGeneration", of("pcie_gen_device", device)),
		of("pcie_width_max", nvml.Device.GetMaxPcieLinkWidth),
		of("ecc", func(d nvml.Device) (nvml.EnableState, nvml.Return) { now, _, r := d.GetEccMode(); return now, r }),
		of("nvlinks", links),
		of("nvlink_version", func(d nvml.Device) (uint32, nvml.Return) { return d.GetNvLinkVersion(0) }),
		since("nvmlDeviceGetRowRemapperHistogram", of("remap_banks", func(d nvml.Device) (uint32, nvml.Return) {
			h, r := d.GetRowRemapperHistogram()
			return h.Max + h.High + h.Partial + h.Low + h.None, r
		})),
	}
}

// instances are what MIG would make of the GPU.
func instances() []figure {
	most := func(d nvml.Device) (uint32, nvml.Return) {
		i, r := d.GetGpuInstanceProfileInfo(nvml.GPU_INSTANCE_PROFILE_1_SLICE)
		return i.InstanceCount, r
	}
	const function = "nvmlDeviceGetGpuInstanceProfileInfo"
	figures := []figure{since(function, of("mig_max", most))}
	for _, profile := range []struct {
		name string
		is   int
	}{
		{"1g", nvml.GPU_INSTANCE_PROFILE_1_SLICE}, {"1g_double", nvml.GPU_INSTANCE_PROFILE_1_SLICE_REV2},
		{"2g", nvml.GPU_INSTANCE_PROFILE_2_SLICE}, {"3g", nvml.GPU_INSTANCE_PROFILE_3_SLICE},
		{"4g", nvml.GPU_INSTANCE_PROFILE_4_SLICE}, {"7g", nvml.GPU_INSTANCE_PROFILE_7_SLICE},
	} {
		info := func(d nvml.Device) (nvml.GpuInstanceProfileInfo, nvml.Return) {
			return d.GetGpuInstanceProfileInfo(profile.is)
		}
		figures = append(figures,
			since(function, of("mig_sms_"+profile.name, func(d nvml.Device) (uint32, nvml.Return) { i, r := info(d); return i.MultiprocessorCount, r })),
			since(function, of("mig_mb_"+profile.name, func(d nvml.Device) (uint64, nvml.Return) { i, r := info(d); return i.MemorySizeMB, r })))
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

// device is the generation of PCIe that the GPU has, if the machine has less.
func device(d nvml.Device) (int, nvml.Return) {
	of, r := d.GetGpuMaxPcieLinkGeneration()
	if both, _ := d.GetMaxPcieLinkGeneration(); both == of {
		return 0, r
	}
	return of, r
}

// limit is a limit of the temperature. Drivers since Ada give it as the distance
// to the limit of the GPU, as they do the temperature.
func limit(kind nvml.TemperatureThresholds, distance uint32, margins bool) func(nvml.Device) (uint32, nvml.Return) {
	return func(d nvml.Device) (uint32, nvml.Return) {
		t, r := d.GetTemperatureThreshold(kind)
		if !missing(r) || !margins {
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
