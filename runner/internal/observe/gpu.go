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
	return collector{"DCGM_FI_DEV_", func(send send) {
		for _, r := range read() {
			for _, v := range r.Values {
				send(v.Name, v.Help, v.Value, "gpu", strconv.Itoa(r.Index), "UUID", r.UUID, "modelName", r.Model)
			}
		}
	}}
}
