package smi

import (
	"cmp"
	"slices"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// app is a process that uses a GPU.
type app struct {
	*gpu
	nvml.ProcessInfo
	kind string // C, G or both
}

// appFields are all properties of --query-compute-apps.
func appFields() []field[*app] {
	ofGPU := func(names, help string, get func(nvml.Device) (string, nvml.Return)) field[*app] {
		return field[*app]{names: names, help: help, read: func(a *app) (string, nvml.Return) { return get(a.Device) }}
	}
	return []field[*app]{
		{names: "timestamp", help: "When the query was made, as YYYY/MM/DD HH:MM:SS.msec.",
			read: func(a *app) (string, nvml.Return) { return timestamp(a.asked), nvml.SUCCESS }},
		ofGPU("gpu_name", "Name of the model.", nvml.Device.GetName),
		{names: "gpu_bus_id", help: "PCI bus id of the GPU.", read: func(a *app) (string, nvml.Return) {
			p, r := a.GetPciInfo()
			return chars(p.BusId[:]), r
		}},
		ofGPU("gpu_serial", "Serial number of the board.", nvml.Device.GetSerial),
		ofGPU("gpu_uuid", "UUID of the GPU.", nvml.Device.GetUUID),
		{names: "pid", help: "Id of the process.", read: func(a *app) (string, nvml.Return) { return decimal(a.Pid), nvml.SUCCESS }},
		{names: "process_name name", help: "Name of the process.", read: (*app).name},
		{names: "used_gpu_memory used_memory", unit: "MiB", help: "Memory of the GPU that it uses.", read: func(a *app) (string, nvml.Return) {
			if a.UsedGpuMemory == notAvailable {
				return "", nvml.ERROR_NOT_SUPPORTED
			}
			return mebibytes(a.UsedGpuMemory), nvml.SUCCESS
		}},
	}
}

// notAvailable is NVML_VALUE_NOT_AVAILABLE.
const notAvailable = ^uint64(0)

// none is the id of an instance that there is not.
const none = ^uint32(0)

func (a *app) name() (string, nvml.Return) { return a.lib.SystemGetProcessName(int(a.Pid)) }

// computeApps are the compute processes of the GPUs.
func computeApps(gpus []*gpu) ([]*app, nvml.Return) {
	var apps []*app
	for _, g := range gpus {
		processes, r := g.GetComputeRunningProcesses()
		if r != nvml.SUCCESS && !unknown(r) {
			return apps, r
		}
		for _, p := range processes {
			apps = append(apps, &app{gpu: g, ProcessInfo: p, kind: "C"})
		}
	}
	return apps, nvml.SUCCESS
}

// allApps are all processes of a GPU. One that computes and draws is there once.
func allApps(g *gpu) []*app {
	var apps []*app
	for _, list := range []struct {
		kind string
		get  func(nvml.Device) ([]nvml.ProcessInfo, nvml.Return)
	}{
		{"C", nvml.Device.GetComputeRunningProcesses},
		{"G", nvml.Device.GetGraphicsRunningProcesses},
		{"M", nvml.Device.GetMPSComputeRunningProcesses},
	} {
		processes, _ := list.get(g) // a kind that this GPU does not know has none
		for _, p := range processes {
			i := slices.IndexFunc(apps, func(a *app) bool { return a.Pid == p.Pid && a.GpuInstanceId == p.GpuInstanceId })
			switch {
			case i < 0 && list.kind == "M":
				apps = append(apps, &app{gpu: g, ProcessInfo: p, kind: "M+C"})
			case i < 0:
				apps = append(apps, &app{gpu: g, ProcessInfo: p, kind: list.kind})
			case list.kind == "G":
				apps[i].kind = "C+G"
			case list.kind == "M":
				apps[i].kind = "M+C"
			}
		}
	}
	slices.SortStableFunc(apps, func(a, b *app) int { return cmp.Compare(a.Pid, b.Pid) })
	return apps
}
