package smi

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// reasons are the properties that say why the clocks are no higher.
func reasons() []field[*gpu] {
	mask := func(m uint64) string { return fmt.Sprintf("0x%016X", m) }
	fields := []field[*gpu]{
		{names: "clocks_event_reasons.supported clocks_throttle_reasons.supported", help: "Bits of the reasons that this GPU can have.",
			read: read(nvml.Device.GetSupportedClocksThrottleReasons, mask)},
		{names: "clocks_event_reasons.active clocks_throttle_reasons.active", help: "Bits of the reasons that it has.",
			read: read(nvml.Device.GetCurrentClocksThrottleReasons, mask)},
	}
	for _, reason := range []struct {
		name, help string
		bit        uint64
	}{
		{"gpu_idle", "Nothing runs on the GPU.", nvml.ClocksEventReasonGpuIdle},
		{"applications_clocks_setting", "The applications clocks limit them.", nvml.ClocksEventReasonApplicationsClocksSetting},
		{"sw_power_cap", "The power limit does.", nvml.ClocksEventReasonSwPowerCap},
		{"hw_slowdown", "The hardware slows down by half or more.", nvml.ClocksThrottleReasonHwSlowdown},
		{"hw_thermal_slowdown", "It does because it is too hot.", nvml.ClocksThrottleReasonHwThermalSlowdown},
		{"hw_power_brake_slowdown", "It does because the power supply asks for it.", nvml.ClocksThrottleReasonHwPowerBrakeSlowdown},
		{"sw_thermal_slowdown", "The driver slows down because of the temperature.", nvml.ClocksEventReasonSwThermalSlowdown},
		{"sync_boost", "Other GPUs of its group are slower.", nvml.ClocksEventReasonSyncBoost},
	} {
		fields = append(fields, field[*gpu]{
			names: "clocks_event_reasons." + reason.name + " clocks_throttle_reasons." + reason.name, help: reason.help,
			read: read(nvml.Device.GetCurrentClocksThrottleReasons, func(m uint64) string { return either(m&reason.bit != 0, "Active", "Not Active") })})
	}
	microseconds := func(ns uint64) string { return decimal(ns / 1000) }
	for _, counter := range []struct {
		name string
		id   uint32
	}{
		{"sw_power_cap", nvml.FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP},
		{"sync_boost", nvml.FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST},
		{"sw_thermal_slowdown", nvml.FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN},
		{"hw_thermal_slowdown", nvml.FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN},
		{"hw_power_brake_slowdown", nvml.FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN},
	} {
		fields = append(fields, field[*gpu]{names: "clocks_event_reasons_counters." + counter.name, unit: "us",
			help: "How long that reason was there.", read: byID(counter.id, microseconds)})
	}
	return fields
}

func memory() []field[*gpu] {
	of := func(name, help string, part func(nvml.Memory_v2) uint64) field[*gpu] {
		return field[*gpu]{names: "memory." + name, unit: "MiB", help: help, read: func(g *gpu) (string, nvml.Return) {
			m, r := g.memory()
			return mebibytes(part(m)), r
		}}
	}
	return []field[*gpu]{
		of("total", "Memory of the GPU.", func(m nvml.Memory_v2) uint64 { return m.Total }),
		of("reserved", "What the driver keeps for itself.", func(m nvml.Memory_v2) uint64 { return m.Reserved }),
		of("used", "What is in use.", func(m nvml.Memory_v2) uint64 { return m.Used }),
		of("free", "What is free.", func(m nvml.Memory_v2) uint64 { return m.Free }),
	}
}

// memory knows what is reserved, where the driver does.
func (g *gpu) memory() (nvml.Memory_v2, nvml.Return) {
	if g.lib.Extensions().LookupSymbol("nvmlDeviceGetMemoryInfo_v2") == nil {
		return g.GetMemoryInfo_v2()
	}
	m, r := g.GetMemoryInfo()
	return nvml.Memory_v2{Total: m.Total, Used: m.Used, Free: m.Free}, r
}

func utilization() []field[*gpu] {
	engine := func(get func(nvml.Device) (uint32, uint32, nvml.Return)) func(*gpu) (string, nvml.Return) {
		return pair(get, false, decimal)
	}
	session := func(pick func(sessions int, fps, latency uint32) string) func(*gpu) (string, nvml.Return) {
		return func(g *gpu) (string, nvml.Return) {
			sessions, fps, latency, r := g.GetEncoderStats()
			return pick(sessions, fps, latency), r
		}
	}
	return []field[*gpu]{
		{names: "utilization.gpu", unit: "%", help: "Share of the time in which a kernel ran.",
			read: read(nvml.Device.GetUtilizationRates, func(u nvml.Utilization) string { return decimal(u.Gpu) })},
		{names: "utilization.memory", unit: "%", help: "Share of the time in which memory was read or written.",
			read: read(nvml.Device.GetUtilizationRates, func(u nvml.Utilization) string { return decimal(u.Memory) })},
		{names: "utilization.encoder", unit: "%", help: "The encoder's.", read: engine(nvml.Device.GetEncoderUtilization)},
		{names: "utilization.decoder", unit: "%", help: "The decoder's.", read: engine(nvml.Device.GetDecoderUtilization)},
		{names: "utilization.jpeg", unit: "%", help: "The JPEG engine's.", read: since("nvmlDeviceGetJpgUtilization", engine(nvml.Device.GetJpgUtilization))},
		{names: "utilization.ofa", unit: "%", help: "The optical flow engine's.", read: since("nvmlDeviceGetOfaUtilization", engine(nvml.Device.GetOfaUtilization))},
		{names: "encoder.stats.sessionCount", help: "Sessions of the encoder.", read: session(func(n int, _, _ uint32) string { return decimal(n) })},
		{names: "encoder.stats.averageFps", help: "Their frames a second.", read: session(func(_ int, fps, _ uint32) string { return decimal(fps) })},
		{names: "encoder.stats.averageLatency", help: "Their latency in microseconds.", read: session(func(_ int, _, us uint32) string { return decimal(us) })},
	}
}

func temperature() []field[*gpu] {
	return []field[*gpu]{
		{names: "temperature.gpu", help: "Degrees Celsius.",
			read: func(g *gpu) (string, nvml.Return) {
				t, r := g.GetTemperature(nvml.TEMPERATURE_GPU)
				return decimal(t), r
			}},
		{names: "temperature.gpu.tlimit", help: "Degrees that are left until the limit.", read: since("nvmlDeviceGetMarginTemperature",
			read(nvml.Device.GetMarginTemperature, func(m nvml.MarginTemperature) string { return decimal(m.MarginTemperature) }))},
		{names: "temperature.memory", bare: true, help: "That of the memory, if it is HBM.", read: byID(nvml.FI_DEV_MEMORY_TEMP, decimal)},
	}
}

func power() []field[*gpu] {
	return []field[*gpu]{
		{names: "power.management", help: "Whether power is managed.", read: read(nvml.Device.GetPowerManagementMode, enabled)},
		{names: "power.draw", unit: "W", help: "Power that the board draws; since Ampere the average of a second.", read: read(nvml.Device.GetPowerUsage, watts)},
		{names: "power.draw.average gpu.power.draw.average", unit: "W", help: "The average of a second.", read: byID(nvml.FI_DEV_POWER_AVERAGE, watts)},
		{names: "power.draw.instant gpu.power.draw.instant", unit: "W", help: "The last measurement.", read: byID(nvml.FI_DEV_POWER_INSTANT, watts)},
		{names: "power.limit gpu.power.requested_limit", unit: "W", help: "The limit that was set.", read: read(nvml.Device.GetPowerManagementLimit, watts)},
		{names: "enforced.power.limit gpu.power.current_limit", unit: "W", help: "The least of all limits.", read: read(nvml.Device.GetEnforcedPowerLimit, watts)},
		{names: "power.default_limit gpu.power.default_limit", unit: "W", help: "The limit after a start.", read: read(nvml.Device.GetPowerManagementDefaultLimit, watts)},
		{names: "power.min_limit gpu.power.min_limit", unit: "W", help: "The least that can be set.", read: pair(nvml.Device.GetPowerManagementLimitConstraints, false, watts)},
		{names: "power.max_limit gpu.power.max_limit", unit: "W", help: "The most that can be set.", read: pair(nvml.Device.GetPowerManagementLimitConstraints, true, watts)},
	}
}

func clocks() []field[*gpu] {
	of := func(names, help string, get func(nvml.Device, nvml.ClockType) (uint32, nvml.Return), clock nvml.ClockType) field[*gpu] {
		return field[*gpu]{names: names, unit: "MHz", help: help, read: func(g *gpu) (string, nvml.Return) {
			mhz, r := get(g, clock)
			return decimal(mhz), r
		}}
	}
	now, most := nvml.Device.GetClockInfo, nvml.Device.GetMaxClockInfo
	set, usual := nvml.Device.GetApplicationsClock, nvml.Device.GetDefaultApplicationsClock
	return []field[*gpu]{
		of("clocks.current.graphics clocks.gr", "Graphics clock.", now, nvml.CLOCK_GRAPHICS),
		of("clocks.current.sm clocks.sm", "Clock of the multiprocessors.", now, nvml.CLOCK_SM),
		of("clocks.current.memory clocks.mem", "Clock of the memory.", now, nvml.CLOCK_MEM),
		of("clocks.current.video clocks.video", "Clock of the video engines.", now, nvml.CLOCK_VIDEO),
		of("clocks.applications.graphics clocks.applications.gr", "Graphics clock for applications.", set, nvml.CLOCK_GRAPHICS),
		of("clocks.applications.memory clocks.applications.mem", "Memory clock for applications.", set, nvml.CLOCK_MEM),
		of("clocks.default_applications.graphics clocks.default_applications.gr", "What the first is after a start.", usual, nvml.CLOCK_GRAPHICS),
		of("clocks.default_applications.memory clocks.default_applications.mem", "What the second is after a start.", usual, nvml.CLOCK_MEM),
		of("clocks.max.graphics clocks.max.gr", "Highest graphics clock.", most, nvml.CLOCK_GRAPHICS),
		of("clocks.max.sm", "Highest clock of the multiprocessors.", most, nvml.CLOCK_SM),
		of("clocks.max.memory clocks.max.mem", "Highest clock of the memory.", most, nvml.CLOCK_MEM),
	}
}
