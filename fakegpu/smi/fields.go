package smi

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// gpuFields are all properties of --query-gpu, in the order of its help.
func gpuFields() []field[*gpu] {
	return slices.Concat(identity(), link(), modes(), reasons(), memory(), utilization(), ecc(), rows(), temperature(), power(), clocks(), newer())
}

func timestamp(t time.Time) string { return t.Format("2006/01/02 15:04:05.000") }

func identity() []field[*gpu] {
	return []field[*gpu]{
		{names: "timestamp", help: "When the query was made, as YYYY/MM/DD HH:MM:SS.msec.",
			read: func(g *gpu) (string, nvml.Return) { return timestamp(g.asked), nvml.SUCCESS }},
		{names: "driver_version", help: "Version of the driver.", read: func(g *gpu) (string, nvml.Return) { return g.lib.SystemGetDriverVersion() }},
		{names: "count", help: "Number of GPUs of the machine.", read: func(g *gpu) (string, nvml.Return) { return decimal(g.count), nvml.SUCCESS }},
		{names: "name gpu_name", help: "Name of the model.", read: nvmlText(nvml.Device.GetName)},
		{names: "serial gpu_serial", help: "Serial number of the board.", read: nvmlText(nvml.Device.GetSerial)},
		{names: "uuid gpu_uuid", help: "UUID of the GPU.", read: nvmlText(nvml.Device.GetUUID)},
		{names: "pci.bus_id gpu_bus_id", help: "PCI bus id, as domain:bus:device.function, hexadecimal.", read: pci(func(p nvml.PciInfo) string { return chars(p.BusId[:]) })},
		{names: "pci.domain", help: "PCI domain, hexadecimal.", read: pci(func(p nvml.PciInfo) string { return fmt.Sprintf("0x%04X", p.Domain) })},
		{names: "pci.bus", help: "PCI bus, hexadecimal.", read: pci(func(p nvml.PciInfo) string { return fmt.Sprintf("0x%02X", p.Bus) })},
		{names: "pci.device", help: "PCI device, hexadecimal.", read: pci(func(p nvml.PciInfo) string { return fmt.Sprintf("0x%02X", p.Device) })},
		{names: "pci.baseClass", help: "PCI base class, hexadecimal.", read: since("nvmlDeviceGetPciInfoExt",
			read(nvml.Device.GetPciInfoExt, func(p nvml.PciInfoExt) string { return fmt.Sprintf("0x%X", p.BaseClass) }))},
		{names: "pci.subClass", help: "PCI sub class, hexadecimal.", read: since("nvmlDeviceGetPciInfoExt",
			read(nvml.Device.GetPciInfoExt, func(p nvml.PciInfoExt) string { return fmt.Sprintf("0x%X", p.SubClass) }))},
		{names: "pci.device_id", help: "PCI device and vendor, hexadecimal.", read: pci(func(p nvml.PciInfo) string { return fmt.Sprintf("0x%08X", p.PciDeviceId) })},
		{names: "pci.sub_device_id", help: "PCI subsystem, hexadecimal.", read: pci(func(p nvml.PciInfo) string { return fmt.Sprintf("0x%08X", p.PciSubSystemId) })},
	}
}

func nvmlText(get func(nvml.Device) (string, nvml.Return)) func(*gpu) (string, nvml.Return) {
	return read(get, text)
}

func pci(show func(nvml.PciInfo) string) func(*gpu) (string, nvml.Return) {
	return read(nvml.Device.GetPciInfo, show)
}

func link() []field[*gpu] {
	return []field[*gpu]{
		{names: "pcie.link.gen.current", help: "Generation of the PCIe link now; less when the GPU is not in use.", read: read(nvml.Device.GetCurrPcieLinkGeneration, decimal)},
		{names: "pcie.link.gen.gpucurrent", help: "The same.", read: read(nvml.Device.GetCurrPcieLinkGeneration, decimal)},
		{names: "pcie.link.gen.max", help: "Generation that the GPU and the machine can have.", read: read(nvml.Device.GetMaxPcieLinkGeneration, decimal)},
		{names: "pcie.link.gen.gpumax", help: "Generation that the GPU can have.",
			read: since("nvmlDeviceGetGpuMaxPcieLinkGeneration", read(nvml.Device.GetGpuMaxPcieLinkGeneration, decimal))},
		{names: "pcie.link.width.current", help: "Lanes of the PCIe link now.", read: read(nvml.Device.GetCurrPcieLinkWidth, decimal)},
		{names: "pcie.link.width.max", help: "Lanes that the GPU and the machine can have.", read: read(nvml.Device.GetMaxPcieLinkWidth, decimal)},
		{names: "index", help: "Index of the GPU, from 0; a boot may change it.", read: read(nvml.Device.GetIndex, decimal)},
	}
}

func modes() []field[*gpu] {
	return []field[*gpu]{
		{names: "display_mode", help: "Whether a display is connected; Enabled or Disabled; not since driver 580.", read: displayMode},
		{names: "display_attached", help: "Whether a display is connected; Yes or No.",
			read: read(nvml.Device.GetDisplayMode, func(s nvml.EnableState) string { return yes(s == nvml.FEATURE_ENABLED) })},
		{names: "display_active", help: "Whether a display is initialized.", read: read(nvml.Device.GetDisplayActive, enabled)},
		{names: "persistence_mode", help: "Whether the driver stays loaded without clients.", read: read(nvml.Device.GetPersistenceMode, enabled)},
		{names: "accounting.mode", help: "Whether processes are accounted for.", read: read(nvml.Device.GetAccountingMode, enabled)},
		{names: "accounting.buffer_size", help: "For how many processes.", read: read(nvml.Device.GetAccountingBufferSize, decimal)},
		{names: "driver_model.current", help: "WDDM or TCC; only on Windows.", read: driverModel(false)},
		{names: "driver_model.pending", help: "That of the next boot.", read: driverModel(true)},
		{names: "vbios_version", help: "Version of the board's BIOS.", read: nvmlText(nvml.Device.GetVbiosVersion)},
		{names: "inforom.img inforom.image", help: "Version of the infoROM's image.", read: nvmlText(nvml.Device.GetInforomImageVersion)},
		{names: "inforom.oem", help: "Version of its OEM object.", read: inforom(nvml.INFOROM_OEM)},
		{names: "inforom.ecc", help: "Version of its ECC object.", read: inforom(nvml.INFOROM_ECC)},
		{names: "inforom.pwr inforom.power", help: "Version of its power object.", read: inforom(nvml.INFOROM_POWER)},
		{names: "gpu_recovery_action", bare: true, help: "What would end the GPU's trouble: None, Reset, Reboot, Drain P2P, Drain and Reset.",
			read: byID(nvml.FI_DEV_GET_GPU_RECOVERY_ACTION, func(n uint64) string {
				return word(n, "None", "Reset", "Reboot", "Drain P2P", "Drain and Reset", "Recover IMEX Domain", "Bus Reset", "System Reboot")
			})},
		{names: "gom.current gpu_operation_mode.current", help: "Operation mode.", read: operationMode(false)},
		{names: "gom.pending gpu_operation_mode.pending", help: "That of the next boot.", read: operationMode(true)},
		{names: "fan.speed", unit: "%", help: "Speed that the fan is meant to have.", read: read(nvml.Device.GetFanSpeed, decimal)},
		{names: "pstate", help: "Performance state, P0 (most) to P15.", read: read(nvml.Device.GetPerformanceState, func(p nvml.Pstates) string { return "P" + decimal(p) })},
		{names: "compute_mode", help: "Default, Exclusive_Thread, Prohibited or Exclusive_Process.",
			read: read(nvml.Device.GetComputeMode, func(m nvml.ComputeMode) string {
				return word(m, "Default", "Exclusive_Thread", "Prohibited", "Exclusive_Process")
			})},
		{names: "compute_cap", help: "CUDA compute capability.", read: func(g *gpu) (string, nvml.Return) {
			major, minor, r := g.GetCudaComputeCapability()
			return fmt.Sprintf("%d.%d", major, minor), r
		}},
		{names: "mig.mode.current", help: "Whether the GPU is divided (MIG).", read: migMode(false)},
		{names: "mig.mode.pending", help: "That after the next reset.", read: migMode(true)},
	}
}

// pair reads one of two values that one call gives.
func pair[V any](get func(nvml.Device) (V, V, nvml.Return), second bool, show func(V) string) func(*gpu) (string, nvml.Return) {
	return func(g *gpu) (string, nvml.Return) {
		a, b, r := get(g)
		if second {
			a = b
		}
		return show(a), r
	}
}

func driverModel(pending bool) func(*gpu) (string, nvml.Return) {
	return pair(nvml.Device.GetDriverModel, pending, func(m nvml.DriverModel) string { return word(m, "WDDM", "TCC", "MCDM") })
}

func operationMode(pending bool) func(*gpu) (string, nvml.Return) {
	return pair(nvml.Device.GetGpuOperationMode, pending, func(m nvml.GpuOperationMode) string {
		return word(m, "All On", "Compute", "Low Double Precision")
	})
}

func migMode(pending bool) func(*gpu) (string, nvml.Return) {
	return since("nvmlDeviceGetMigMode", pair(nvml.Device.GetMigMode, pending, enabled))
}

func inforom(object nvml.InforomObject) func(*gpu) (string, nvml.Return) {
	return func(g *gpu) (string, nvml.Return) { return g.GetInforomVersion(object) }
}

// displayMode is what display_attached is; since driver 580 nvidia-smi says of the
// one that it is deprecated.
func displayMode(g *gpu) (string, nvml.Return) {
	text, r := read(nvml.Device.GetDisplayMode, enabled)(g)
	driver, _ := g.lib.SystemGetDriverVersion()
	if branch, _, _ := strings.Cut(driver, "."); r == nvml.SUCCESS && len(branch) >= 3 && branch >= "580" {
		return "", nvml.ERROR_DEPRECATED
	}
	return text, r
}
