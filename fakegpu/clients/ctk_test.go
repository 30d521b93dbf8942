package clients

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCDISpecNamesEveryGPU has nvidia-ctk write the CDI specification of a
// machine, as an administrator does after the driver was installed.
func TestCDISpecNamesEveryGPU(t *testing.T) {
	ctk := program(t, "ctk", "github.com/NVIDIA/nvidia-container-toolkit/cmd/nvidia-ctk")
	for _, profile := range []string{"T4", "H100-80GB"} { // without and with MIG
		t.Run(profile, func(t *testing.T) {
			m := newMachine(t, "--profile", profile, "--count", "4")
			var stderr bytes.Buffer
			generate := exec.Command(ctk, "cdi", "generate", "--mode=nvml", "--format=json",
				"--driver-root", m.root, "--dev-root", m.root, "--nvidia-cdi-hook-path", "/usr/bin/nvidia-cdi-hook")
			generate.Env = append(os.Environ(), "FAKEGPU_STATE="+m.state)
			generate.Stderr = &stderr
			out, err := generate.Output()
			if err != nil {
				t.Fatalf("nvidia-ctk cdi generate: %v\n%s", err, &stderr)
			}

			type node struct {
				Path string `json:"path"`
			}
			var spec struct {
				Kind    string `json:"kind"`
				Devices []struct {
					Name  string `json:"name"`
					Edits struct {
						Nodes []node `json:"deviceNodes"`
					} `json:"containerEdits"`
				} `json:"devices"`
			}
			if err := json.Unmarshal(out, &spec); err != nil {
				t.Fatalf("the specification is no JSON: %v\n%s", err, out)
			}
			if spec.Kind != "nvidia.com/gpu" {
				t.Errorf("kind is %q, want nvidia.com/gpu", spec.Kind)
			}
			got := map[string][]string{}
			for _, d := range spec.Devices {
				nodes := []string{}
				for _, n := range d.Edits.Nodes {
					nodes = append(nodes, n.Path)
				}
				slices.Sort(nodes)
				got[d.Name] = nodes
			}
			want := map[string][]string{"all": {}}
			for i, uuid := range m.uuids {
				nodes := []string{}
				if m.nodes {
					nodes = append(nodes, "/dev/nvidia"+strconv.Itoa(i))
				}
				want[strconv.Itoa(i)] = nodes
				want[uuid] = nodes
				want["all"] = append(want["all"], nodes...)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("devices and their nodes (-want +got):\n%s\n%s", diff, &stderr)
			}
		})
	}
}
