package debian

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPynvml has Python's bindings answer, and hear an Xid.
func TestPynvml(t *testing.T) {
	state := machine(t)
	out := output(t, state, "", python(), "-c", `
import subprocess, sys
import pynvml as n
n.nvmlInit()
d = n.nvmlDeviceGetHandleByIndex(1)
text = lambda s: s.decode() if isinstance(s, bytes) else s
print(n.nvmlDeviceGetCount(), text(n.nvmlSystemGetDriverVersion()), text(n.nvmlDeviceGetName(d)), text(n.nvmlDeviceGetUUID(d)))
print(text(n.nvmlDeviceGetPciInfo(d).busId), n.nvmlDeviceGetTemperature(d, 0), n.nvmlDeviceGetPowerUsage(d), n.nvmlDeviceGetEnforcedPowerLimit(d))
m = n.nvmlDeviceGetMemoryInfo(d)
print(m.total, m.used, n.nvmlDeviceGetUtilizationRates(d).gpu, n.nvmlDeviceGetClockInfo(d, n.NVML_CLOCK_SM))
print(sorted((p.pid, p.usedGpuMemory, text(n.nvmlSystemGetProcessName(p.pid))) for p in n.nvmlDeviceGetComputeRunningProcesses(d)))
try:
    n.nvmlDeviceGetFanSpeed(d)
except n.NVMLError_NotSupported as e:
    print(e)
events = n.nvmlEventSetCreate()
n.nvmlDeviceRegisterEvents(d, n.nvmlEventTypeXidCriticalError, events)
subprocess.check_call([sys.argv[1], "inject", "xid", sys.argv[2], "1", "48"])
e = n.nvmlEventSetWait_v2(events, 60000)
print(e.eventType, e.eventData, text(n.nvmlDeviceGetUUID(e.device)))
`, bin+"/fakegpu", state)
	want := fmt.Sprintf("2 580.95.05 NVIDIA H100 80GB HBM3 %s\n00000000:02:00.0 %d %d %d\n%d %d %d %d\n[(%d, %d, 'init'), (%d, %d, 'test')]\nNot Supported\n8 48 %s\n",
		gpu.uuids[1], gpu.temperature, gpu.power, gpu.limit, gpu.memory, gpu.used, gpu.active, gpu.clock, gpu.pids[0], 1<<30, gpu.pids[1], 2<<30, gpu.uuids[1])
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("pynvml (-want +got):\n%s", diff)
	}
}

func TestGpustat(t *testing.T) {
	out := output(t, machine(t), "", python(), unpacked("gpustat"), "--json", "--show-pid")
	type process struct {
		PID    int `json:"pid"`
		Memory int `json:"gpu_memory_usage"`
	}
	type card struct {
		Index       int       `json:"index"`
		UUID        string    `json:"uuid"`
		Name        string    `json:"name"`
		Temperature uint64    `json:"temperature.gpu"`
		Fan         *int      `json:"fan.speed"`
		Active      uint64    `json:"utilization.gpu"`
		Power       uint64    `json:"power.draw"`
		Limit       uint64    `json:"enforced.power.limit"`
		Used        uint64    `json:"memory.used"`
		Memory      uint64    `json:"memory.total"`
		Processes   []process `json:"processes"`
	}
	var got struct {
		Driver string `json:"driver_version"`
		GPUs   []card `json:"gpus"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.GPUs) != 2 || got.Driver != "580.95.05" {
		t.Fatalf("gpustat says %v\n%s", err, out)
	}
	want := card{Index: 1, UUID: gpu.uuids[1], Name: "NVIDIA H100 80GB HBM3", Temperature: gpu.temperature, Active: gpu.active, Power: gpu.power / 1000,
		Limit: gpu.limit / 1000, Used: gpu.used >> 20, Memory: gpu.memory >> 20, Processes: []process{{gpu.pids[0], 1024}, {gpu.pids[1], 2048}}}
	if diff := cmp.Diff(want, got.GPUs[1]); diff != "" {
		t.Errorf("the second GPU (-want +got):\n%s", diff)
	}
}
