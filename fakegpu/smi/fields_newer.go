package smi

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// newer are properties that came with servers of the last years.
func newer() []field[*gpu] {
	return append([]field[*gpu]{
		{names: "addressing_mode", help: "How the GPU reaches the memory of processes: HMM, ATS or None.", read: since("nvmlDeviceGetAddressingMode",
			read(nvml.Device.GetAddressingMode, func(m nvml.DeviceAddressingMode) string { return word(m.Value, "None", "HMM", "ATS") }))},
		{names: "gsp.mode.current", help: "Whether the GSP firmware runs.", read: gsp(false)},
		{names: "gsp.mode.default", help: "Whether it does after a start.", read: gsp(true)},
		{names: "c2c.mode", help: "Whether the GPU is linked to the processor by C2C.", read: since("nvmlDeviceGetC2cModeInfoV", func(g *gpu) (string, nvml.Return) {
			info, r := g.GetC2cModeInfoV().V1()
			return enabled(info.IsC2cEnabled), r
		})},
		{names: "dramEncryption.mode.current", help: "Whether the memory is encrypted.", read: encryption(false)},
		{names: "dramEncryption.mode.pending", help: "That after the next boot.", read: encryption(true)},
		{names: "protected_memory.total", unit: "MiB", help: "Memory for confidential computing.", read: protected(func(m nvml.Memory) uint64 { return m.Total })},
		{names: "protected_memory.used", unit: "MiB", help: "What is in use of it.", read: protected(func(m nvml.Memory) uint64 { return m.Used })},
		{names: "protected_memory.free", unit: "MiB", help: "What is free of it.", read: protected(func(m nvml.Memory) uint64 { return m.Free })},
		{names: "platform.module_id", help: "Id of the GPU in its machine.", read: since("nvmlDeviceGetModuleId", read(nvml.Device.GetModuleId, decimal))},
	}, fabric()...)
}

func gsp(standard bool) func(*gpu) (string, nvml.Return) {
	return since("nvmlDeviceGetGspFirmwareMode", pair(nvml.Device.GetGspFirmwareMode, standard, func(is bool) string { return either(is, "Enabled", "Disabled") }))
}

func encryption(pending bool) func(*gpu) (string, nvml.Return) {
	return since("nvmlDeviceGetDramEncryptionMode", pair(nvml.Device.GetDramEncryptionMode, pending, func(i nvml.DramEncryptionInfo) string { return enabled(i.EncryptionState) }))
}

func protected(part func(nvml.Memory) uint64) func(*gpu) (string, nvml.Return) {
	return since("nvmlDeviceGetConfComputeProtectedMemoryUsage",
		read(nvml.Device.GetConfComputeProtectedMemoryUsage, func(m nvml.Memory) string { return mebibytes(part(m)) }))
}

// fabric are the properties of the GPU's part in a fabric of NVLinks.
func fabric() []field[*gpu] {
	of := func(name, help string, show func(nvml.GpuFabricInfo_v2) string) field[*gpu] {
		return field[*gpu]{names: "fabric." + name, bare: true, help: help, read: since("nvmlDeviceGetGpuFabricInfoV", func(g *gpu) (string, nvml.Return) {
			info, r := g.GetGpuFabricInfoV().V2()
			if r == nvml.SUCCESS && info.State == nvml.GPU_FABRIC_STATE_NOT_SUPPORTED {
				r = nvml.ERROR_NOT_SUPPORTED
			}
			return show(info), r
		})}
	}
	type info = nvml.GpuFabricInfo_v2
	return []field[*gpu]{
		of("state", "How far its registration is.", func(i info) string { return word(i.State, "N/A", "Not Started", "In Progress", "Completed") }),
		of("status", "How the registration ended.", func(i info) string { return nvml.ErrorString(nvml.Return(i.Status)) }),
		of("cliqueId", "Id of its clique.", func(i info) string { return decimal(i.CliqueId) }),
		of("clusterUuid", "UUID of its cluster.", func(i info) string {
			u := i.ClusterUuid
			return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
		}),
	}
}
