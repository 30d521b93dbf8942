package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// example runs one of go-nvml's examples, in the version that the runner has.
func example(t *testing.T, m machine, name string) string {
	t.Helper()
	file := program(t, filepath.Join("..", ".."), "github.com/NVIDIA/go-nvml/examples/"+name)
	c := exec.Command(file)
	c.Env = append(os.Environ(), "FAKEGPU_STATE="+m.state, "LD_LIBRARY_PATH="+bin(t))
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

func TestExampleOfDevices(t *testing.T) {
	m := newMachine(t, "--profile", "H100-80GB", "--count", "3")
	var got []string
	for line := range strings.Lines(example(t, m, "devices")) {
		if uuid, found := strings.CutPrefix(strings.TrimSpace(line), "uuid="); found {
			got = append(got, uuid)
		}
	}
	if diff := cmp.Diff(m.uuids, got); diff != "" {
		t.Errorf("UUIDs (-want +got):\n%s", diff)
	}
}

func TestExampleOfProcesses(t *testing.T) {
	m := newMachine(t, "--profile", "T4", "--count", "2")
	m.fakegpu(t, "set", m.state, "1", "--process", "4242=7Mi", "--process", "5=1Gi,type=graphics", "--process", "77=3Gi")
	want := "Found 0 processes on device 0\nFound 2 processes on device 1\n"
	for i, p := range []struct{ pid, memory int }{{4242, 7 << 20}, {77, 3 << 30}} {
		want += fmt.Sprintf("\t[%2d] ProcessInfo: {Pid:%d UsedGpuMemory:%d GpuInstanceId:4294967295 ComputeInstanceId:4294967295}\n", i, p.pid, p.memory)
	}
	if diff := cmp.Diff(want, example(t, m, "compute-processes")); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
}

// TestExampleOfMetrics has GPUs before and since Hopper, which brought them.
func TestExampleOfMetrics(t *testing.T) {
	m := newMachine(t, "--gpus", "H100-80GB=1", "--gpus", "T4=1")
	m.fakegpu(t, "set", m.state, "0", "utilization_gpu=37")
	out := example(t, m, "gpm-metrics")
	const graphics = 1 // NVML_GPM_METRIC_GRAPHICS_UTIL
	if want := fmt.Sprintf("%d: 37\n", graphics); !strings.Contains(out, want) {
		t.Errorf("there is no %q in:\n%s", want, out)
	}
	if !strings.Contains(out, "failed to get metrics for device 1") || strings.Contains(out, "device 0") {
		t.Errorf("GPUs of a model without metrics have some, or the other has none:\n%s", out)
	}
}
