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

// TestFeatureDiscoveryLabelsTheNode compares all labels of GPU Feature Discovery
// with what was set.
func TestFeatureDiscoveryLabelsTheNode(t *testing.T) {
	file := program(t, ".", "github.com/NVIDIA/k8s-device-plugin/cmd/gpu-feature-discovery")
	m := newMachine(t, "--profile", "H100-80GB", "--count", "3")
	m.fakegpu(t, "set", m.state, "all", "name=NVIDIA H42")
	m.fakegpu(t, "mig", m.state, "1", "3g.40gb", "1g.10gb", "1g.10gb")
	labels := filepath.Join(t.TempDir(), "labels")
	kind := filepath.Join(t.TempDir(), "product_name")
	if err := os.WriteFile(kind, []byte("Box 9\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	discover := exec.Command(file, "--oneshot", "--no-timestamp", "--device-discovery-strategy=nvml", "--mig-strategy=mixed",
		"--driver-root-ctr-path="+m.root, "--machine-type-file="+kind, "--output-file="+labels)
	discover.Env = append(os.Environ(), "FAKEGPU_STATE="+m.state, "LD_LIBRARY_PATH="+bin(t))
	if out, err := discover.CombinedOutput(); err != nil {
		t.Fatalf("gpu-feature-discovery: %v\n%s", err, out)
	}
	text, err := os.ReadFile(labels)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		// The class of the GPUs' PCI devices is in sysfs, where they are not. The
		// engines of MIG devices are for NVML's own tests.
		if key != "nvidia.com/gpu.mode" && !strings.Contains(key, ".engines.") {
			got[strings.TrimPrefix(key, "nvidia.com/")] = value
		}
	}

	want := map[string]string{
		"gpu.count": "3", "gpu.product": "NVIDIA-H42", "gpu.memory": "81559", "gpu.family": "hopper", "gpu.compute.major": "9", "gpu.compute.minor": "0",
		"gpu.replicas": "1", "gpu.sharing-strategy": "none", "gpu.machine": "Box-9", "mps.capable": "false", "mig.capable": "true", "mig.strategy": "mixed",
		"vgpu.present":       "false",
		"cuda.runtime.major": "13", "cuda.runtime.minor": "0", "cuda.runtime-version.major": "13", "cuda.runtime-version.minor": "0", "cuda.runtime-version.full": "13.0",
		"cuda.driver-version.full": m.driver(t),
	}
	version := strings.SplitN(m.driver(t), ".", 3)
	for i, part := range []string{"major", "minor", "rev"} {
		want["cuda.driver."+part] = version[i]
		want["cuda.driver-version."+strings.Replace(part, "rev", "revision", 1)] = version[i]
	}
	count := map[string]int{}
	for _, d := range m.migs(t) {
		name := map[uint64]string{1: "mig-1g.10gb", 3: "mig-3g.40gb"}[d.slices]
		count[name]++
		want[name+".count"] = fmt.Sprint(count[name])
		want[name+".replicas"], want[name+".sharing-strategy"] = "1", "none"
		want[name+".product"] = "NVIDIA-H42-MIG-" + strings.TrimPrefix(name, "mig-")
		want[name+".memory"], want[name+".multiprocessors"] = fmt.Sprint(d.b>>20), fmt.Sprint(d.sms)
		want[name+".slices.gi"], want[name+".slices.ci"] = fmt.Sprint(d.slices), fmt.Sprint(d.compute)
	}
	if len(count) != 2 {
		t.Errorf("the MIG devices are of %d kinds, want 2", len(count))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}
