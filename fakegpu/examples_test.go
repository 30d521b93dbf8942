package fakegpu_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// TestExamplesOfGoNVMLRunToTheEnd has the programs by which go-nvml shows how it
// is used.
func TestExamplesOfGoNVMLRunToTheEnd(t *testing.T) {
	const module = "github.com/NVIDIA/go-nvml/examples/"
	for name, want := range map[string]string{
		"devices": "mode={", "gpm-metrics": "1: 70", "compute-processes": "Found 1 processes on device 0", "dl": "resolvedPath=" + filepath.Dir(files.library),
	} {
		t.Run(name, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), name)
			build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-extldflags=-Wl,-z,lazy", "-o", program, module+name)
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("build: %v\n%s", err, out)
			}
			var out string
			err := fakegpu.Exec(files.library, fakegpu.Spec{Profile: "H100-80GB", Count: 1}, func(environment []string) (err error) {
				_, dir, _ := strings.Cut(environment[0], "=")
				process := fakegpu.Process{PID: 42, Type: "compute", Memory: 1 << 30, Name: "train"}
				check(t, fakegpu.SetProcesses(dir, "0", []fakegpu.Process{process}, "utilization_gpu=70"))
				out, err = outputWith(append(os.Environ(), environment...), program, "libnvidia-ml.so.1") // only dl has an argument
				return err
			})
			if err != nil || !strings.Contains(out, want) || strings.Contains(out, "failed") {
				t.Errorf("%v\n%s\nwant %q in it", err, out, want)
			}
		})
	}
}
