package smi_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/studioml/studio-go-runner/fakegpu"
	"github.com/studioml/studio-go-runner/fakegpu/smi"
)

func TestExitCodes(t *testing.T) {
	query := []string{"--query-gpu=index", "--format=csv,noheader"}
	for _, test := range []struct {
		name string
		do   func(dir string) error
		args []string
		code int
		want string
	}{
		{"no permission", func(d string) error { return fakegpu.SetInit(d, 4) }, nil, 4, "Failed to initialize NVML: Insufficient Permissions"},
		{"no driver", func(d string) error { return fakegpu.SetInit(d, 9) }, nil, 9, "couldn't communicate with the NVIDIA driver"},
		{"versions differ", func(d string) error { return fakegpu.SetInit(d, 18) }, nil, 18, "Failed to initialize NVML: Driver/library version mismatch"},
		{"unknown error", func(d string) error { return fakegpu.SetInit(d, 999) }, query, 255, "Failed to initialize NVML: Unknown Error"},
		{"no GPU", func(d string) error { return fakegpu.Remove(d, "all") }, nil, 6, "No devices were found"},
		{"no such GPU", nil, []string{"-i", "7"}, 6, "No devices were found"},
		{"a GPU and none", nil, append([]string{"-i", "0,7"}, query...), 0, "0\n"},
		{"a GPU, list", nil, []string{"-i", "0", "-L"}, 2, "ERROR: Option -i is not valid for this command. Please run 'nvidia-smi -h' for help.\n\n"},
		{"a GPU, list, joined", nil, []string{"--list-gpus", "--id=0"}, 2, "ERROR: Option --id=0 is not valid for this command."},
		{"a lost GPU", func(d string) error { return fakegpu.Set(d, "1", "lost=1") }, query, 15, "0\n"},
		{"a lost GPU, list", func(d string) error { return fakegpu.Set(d, "1", "lost=1") }, []string{"-L"}, 15, "GPU1: GPU is lost"},
		{"a lost GPU, another asked for", func(d string) error { return fakegpu.Set(d, "1", "lost=1") }, append([]string{"-i", "0"}, query...), 0, "0\n"},
		{"a lost GPU, it alone", func(d string) error { return fakegpu.Set(d, "1", "lost=1") }, append([]string{"-i", "1"}, query...), 15, "GPU is lost"},
		{"a lost GPU, by its bus id", func(d string) error { return fakegpu.Set(d, "1", "lost=1") }, append([]string{"-i", "0,00000000:02:00.0"}, query...), 15, "handle for 00000000:02:00.0: GPU is lost"},
		{"a lost GPU, and no such index", func(d string) error { return fakegpu.Set(d, "1", "lost=1") }, append([]string{"-i", "7"}, query...), 6, "No devices were found"},
		{"lost while it is read", func(d string) error {
			return fakegpu.Inject(d, "0", fakegpu.Fault{Function: "nvmlDeviceGetTemperature", Code: 15})
		}, []string{"--query-gpu=index,temperature.gpu", "--format=csv,noheader", "-i", "0"}, 15, "0, [GPU is lost]"},
		{"no count", func(d string) error {
			return fakegpu.Inject(d, "", fakegpu.Fault{Function: "nvmlDeviceGetCount_v2", Code: 13})
		}, nil, 13, "Failed to count the GPUs"},
		{"no property", nil, []string{"--query-gpu=nothing", "--format=csv"}, 2, `Field "nothing" is not a valid field to query.`},
		{"a property of processes", nil, []string{"--query-gpu=pid", "--format=csv"}, 2, `Field "pid" is not a valid field to query.`},
		{"no format", nil, []string{"--query-gpu=index,name"}, 0, "index, name\n0, Tesla T4\n"},
		{"no csv", nil, []string{"--query-gpu=index", "--format=noheader"}, 0, "0\n1\n"},
		{"an unknown format", nil, []string{"--query-gpu=name", "--format=csv,json"}, 2, "Format modifier is not recognized.\n"},
		{"a format of nothing", nil, []string{"--format=csv"}, 255, "ERROR: Option --format=csv is not recognized."},
		{"an unknown option", nil, []string{"--colour=red"}, 255, "ERROR: Option --colour=red is not recognized. Please run 'nvidia-smi -h'.\n\n"},
		{"a value too many", nil, []string{"-L=1"}, 2, "takes no value"},
		{"a value too few", nil, []string{"-i"}, 255, "ERROR: Option -i is missing its value. Please run 'nvidia-smi -h' for help.\n\n"},
		{"two queries", nil, []string{"--query-gpu=name", "--query-compute-apps=pid"}, 2, "Only one --query-* switch can be used at a time.\n"},
		{"a list and a query", nil, []string{"-L", "--query-gpu=name", "--format=csv"}, 2, "only one"},
		{"no time", nil, []string{"-l", "never"}, 2, `"never"`},
		{"no such directory", nil, []string{"-f", "/no/such/file"}, 2, "/no/such/file"},
		{"help", nil, []string{"-h"}, 0, "--query-compute-apps="},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, _ := create(t, fakegpu.Spec{Profile: "T4", Count: 2})
			if test.do != nil {
				check(t, test.do(dir))
			}
			code, out := run(test.args...)
			if code != test.code || !strings.Contains(out, test.want) {
				t.Errorf("exits with %d, want %d with %q in:\n%s", code, test.code, test.want, out)
			}
		})
	}
	t.Run("no library", func(t *testing.T) {
		var out bytes.Buffer
		code := smi.Run(context.Background(), nvml.New(nvml.WithLibraryPath("/no/libnvidia-ml.so.1")), nil, &out)
		if code != 12 || !strings.Contains(out.String(), "couldn't find libnvidia-ml.so library") {
			t.Errorf("exits with %d:\n%s", code, out.String())
		}
	})
}
