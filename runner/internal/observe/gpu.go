package observe

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/studioml/studio-go-runner/runner/internal/gpu"
)

// GPULoad exports what the monitor has read, under the names, units and labels
// of NVIDIA's dcgm-exporter, so that dashboards for that work here too. Of a GPU
// that does not answer there is the Xid, which may tell why.
func GPULoad(read func() []gpu.Reading) prometheus.Collector {
	return collector(func(all send) {
		for _, r := range read() {
			send := all.under("DCGM_FI_DEV_", "gpu", strconv.Itoa(r.Index), "UUID", r.UUID, "modelName", r.Model)
			send("XID_ERRORS", "Value of the last XID error encountered.", float64(r.LastXid))
			send("GPU_TEMP", "GPU temperature (in C).", r.TemperatureCelsius)
			send("POWER_USAGE", "Power draw (in W).", r.PowerWatts)
			send("GPU_UTIL", "GPU utilization (in %).", r.UtilizationPercent)
			if r.MemoryUsed+r.MemoryFree > 0 {
				send("FB_USED", "Framebuffer memory used (in MiB).", float64(r.MemoryUsed>>20))
				send("FB_FREE", "Framebuffer memory free (in MiB).", float64(r.MemoryFree>>20))
				send("FB_RESERVED", "Framebuffer memory reserved (in MiB).", float64(r.MemoryReserved>>20))
			}
		}
	})
}
