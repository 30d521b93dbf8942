package smi

import (
	"fmt"
	"io"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// list prints a line for each GPU and each of its MIG devices.
func list(gpus []*gpu, out io.Writer) int {
	for _, g := range gpus {
		index, r := g.GetIndex()
		name, r2 := g.GetName()
		uuid, r3 := g.GetUUID()
		for _, r := range []nvml.Return{r, r2, r3} {
			if r != nvml.SUCCESS {
				fmt.Fprintf(out, "Unable to read GPU%d: %s\n", index, nvml.ErrorString(r))
				return exitCode(r)
			}
		}
		fmt.Fprintf(out, "GPU %d: %s (UUID: %s)\n", index, name, uuid)
		for i, d := range g.migs() {
			name, _ := d.GetName()
			_, profile, _ := strings.Cut(name, "MIG ")
			uuid, _ := d.GetUUID()
			fmt.Fprintf(out, "  MIG %-11s Device %2d: (UUID: %s)\n", profile, i, uuid)
		}
	}
	return exitSuccess
}

// migs are the MIG devices of a GPU.
func (g *gpu) migs() []nvml.Device {
	if g.lib.Extensions().LookupSymbol("nvmlDeviceGetMigMode") != nil {
		return nil
	}
	if mode, _, r := g.GetMigMode(); r != nvml.SUCCESS || mode != nvml.DEVICE_MIG_ENABLE {
		return nil
	}
	var devices []nvml.Device
	most, _ := g.GetMaxMigDeviceCount()
	for i := range most {
		if d, r := g.GetMigDeviceHandleByIndex(i); r == nvml.SUCCESS {
			devices = append(devices, d)
		}
	}
	return devices
}
