package observe

import (
	"math"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/studioml/studio-go-runner/runner/internal/gpu"
)

// GPULoad exports what the monitor has read, under the names, units and labels
// of NVIDIA's dcgm-exporter, so that dashboards for that work here too. Of a GPU
// that does not answer there is the Xid, which may tell why.
func GPULoad(read func() []gpu.Reading) prometheus.Collector { return gpuCollector{read} }

type gpuCollector struct{ read func() []gpu.Reading }

func dcgm(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("DCGM_FI_DEV_"+name, help, []string{"gpu", "UUID", "modelName"}, nil)
}

var (
	descTemperature = dcgm("GPU_TEMP", "GPU temperature (in C).")
	descPower       = dcgm("POWER_USAGE", "Power draw (in W).")
	descUtilization = dcgm("GPU_UTIL", "GPU utilization (in %).")
	descMemoryUsed  = dcgm("FB_USED", "Framebuffer memory used (in MiB).")
	descMemoryFree  = dcgm("FB_FREE", "Framebuffer memory free (in MiB).")
	descReserved    = dcgm("FB_RESERVED", "Framebuffer memory reserved (in MiB).")
	descXid         = dcgm("XID_ERRORS", "Value of the last XID error encountered.")
)

// Describe implements prometheus.Collector.
func (c gpuCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descTemperature, descPower, descUtilization, descMemoryUsed, descMemoryFree, descReserved, descXid} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c gpuCollector) Collect(ch chan<- prometheus.Metric) {
	for _, r := range c.read() {
		gauge := func(d *prometheus.Desc, v float64) {
			if math.IsNaN(v) {
				return
			}
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, strconv.Itoa(r.Index), r.UUID, r.Model)
		}
		gauge(descXid, float64(r.LastXid))
		if r.Silent {
			continue
		}
		gauge(descTemperature, r.TemperatureCelsius)
		gauge(descPower, r.PowerWatts)
		gauge(descUtilization, r.UtilizationPercent)
		if r.MemoryUsed+r.MemoryFree == 0 {
			continue
		}
		gauge(descMemoryUsed, float64(r.MemoryUsed>>20))
		gauge(descMemoryFree, float64(r.MemoryFree>>20))
		gauge(descReserved, float64(r.MemoryReserved>>20))
	}
}
