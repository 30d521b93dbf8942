package smi_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/fakegpu"
	"github.com/studioml/studio-go-runner/fakegpu/internal/shimtest"
	"github.com/studioml/studio-go-runner/fakegpu/smi"
)

var file string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "smi-test-*")
		if err == nil {
			defer os.RemoveAll(dir)
			file, err = shimtest.Build(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "build the fake library:", err)
			return 1
		}
		return m.Run()
	}())
}

// create makes a machine that the library sees until the end of the test.
func create(t *testing.T, spec fakegpu.Spec) (dir string, gpus []fakegpu.GPU) {
	t.Helper()
	dir = t.TempDir()
	gpus, err := fakegpu.Create(dir, spec)
	check(t, err)
	t.Setenv(fakegpu.EnvState, dir)
	return dir, gpus
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func library() nvml.Interface { return nvml.New(nvml.WithLibraryPath(file)) }

func run(args ...string) (code int, out string) { return runOn(library(), args...) }

func runOn(lib nvml.Interface, args ...string) (code int, out string) {
	var b bytes.Buffer
	code = smi.Run(context.Background(), lib, args, &b)
	return code, b.String()
}

// ask runs a command line that must succeed.
func ask(t *testing.T, args ...string) string {
	t.Helper()
	code, out := run(args...)
	if code != 0 {
		t.Fatalf("nvidia-smi %q exits with %d:\n%s", args, code, out)
	}
	return out
}

func same(t *testing.T, what, want, got string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestList(t *testing.T) {
	dir, gpus := create(t, fakegpu.Spec{Profile: "H100-80GB", Count: 2})
	check(t, fakegpu.SplitMIG(dir, "1", "3g.40gb", "1g.10gb"))
	m, err := fakegpu.Load(dir)
	check(t, err)
	want := "GPU 0: NVIDIA H100 80GB HBM3 (UUID: " + gpus[0].UUID + ")\nGPU 1: NVIDIA H100 80GB HBM3 (UUID: " + gpus[1].UUID + ")\n" +
		"  MIG 3g.40gb     Device  0: (UUID: " + m.GPUs[1].MIGs[0].UUID + ")\n  MIG 1g.10gb     Device  1: (UUID: " + m.GPUs[1].MIGs[1].UUID + ")\n"
	same(t, "list", want, ask(t, "-L"))
	same(t, "list", want, ask(t, "--list-gpus"))
}

// TestTable has the lines of NVIDIA's table, by which scripts cut columns.
func TestTable(t *testing.T) {
	dir, _ := create(t, fakegpu.Spec{Models: []fakegpu.Model{{Profile: "H100-80GB", Count: 1}, {Profile: "RTX-4090", Count: 1}}})
	check(t, fakegpu.Set(dir, "all", "pstate=0", "temperature=41", "power=69850", "memory_used=0", "memory_reserved=479Mi"))
	check(t, fakegpu.SetProcesses(dir, "1", []fakegpu.Process{
		{PID: 5267, Type: "compute", Memory: 230 << 20, Name: "ffmpeg"}, {PID: 1696, Type: "graphics", Memory: 176 << 20, Name: "/usr/bin/gnome-shell"},
		{PID: 5267, Type: "graphics", Memory: 230 << 20, Name: "ffmpeg"}, {PID: 7, Type: "compute", Memory: 1, Name: "/opt/anaconda3/envs/training/bin/python3"},
	}, "name=NVIDIA GeForce RTX 2080 SUPER", "fan_speed=38", "memory_used=819Mi", "compute_mode=3", "persistence=0"))
	out := ask(t)
	date, rest, _ := strings.Cut(out, "\n")
	if _, err := time.Parse("Mon Jan _2 15:04:05 2006       ", date); err != nil {
		t.Errorf("the first line is %q: %v", date, err)
	}
	same(t, "table", `+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 580.95.05              Driver Version: 580.95.05      CUDA Version: 13.0     |
+-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|                                         |                        |               MIG M. |
|=========================================+========================+======================|
|   0  NVIDIA H100 80GB HBM3          On  |   00000000:01:00.0 Off |                    0 |
| N/A   41C    P0             69W /  700W |       0MiB /  81559MiB |      0%      Default |
|                                         |                        |             Disabled |
+-----------------------------------------+------------------------+----------------------+
|   1  NVIDIA GeForce RTX 2080 ...    Off |   00000000:02:00.0 Off |                  N/A |
| 38%   41C    P0             69W /  450W |     819MiB /  24564MiB |      0%   E. Process |
|                                         |                        |                  N/A |
+-----------------------------------------+------------------------+----------------------+

+-----------------------------------------------------------------------------------------+
| Processes:                                                                              |
|  GPU   GI   CI              PID   Type   Process name                        GPU Memory |
|        ID   ID                                                               Usage      |
|=========================================================================================|
|    1   N/A  N/A               7      C   ...conda3/envs/training/bin/python3       1MiB |
|    1   N/A  N/A            1696      G   /usr/bin/gnome-shell                    176MiB |
|    1   N/A  N/A            5267    C+G   ffmpeg                                  230MiB |
+-----------------------------------------------------------------------------------------+
`, rest)
}

func TestTableOfMIG(t *testing.T) {
	dir, _ := create(t, fakegpu.Spec{Profile: "H100-80GB", Count: 1})
	check(t, fakegpu.SplitMIG(dir, "0", "3g.40gb"))
	m, err := fakegpu.Load(dir)
	check(t, err)
	d := m.GPUs[0].MIGs[0]
	out := ask(t)
	for _, want := range []string{
		"|   0  NVIDIA H100 80GB HBM3          On  |   00000000:01:00.0 Off |                   On |\n",
		"|     N/A      Default |\n|                                         |                        |              Enabled |\n",
		"| MIG devices:                                                                            |\n",
		fmt.Sprintf("|  0%5d%4d   0  |               0MiB /%6dMiB    |%3d      0 |", d.GI, d.CI, d.Memory>>20, d.SMs),
		"|  No running processes found                                                             |\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the table has no %q:\n%s", want, out)
		}
	}
	for line := range strings.Lines(out) {
		if n := len(strings.TrimSuffix(line, "\n")); n != 91 && n > 31 {
			t.Errorf("a line has %d characters, want 91: %q", n, line)
		}
	}
}

func TestComputeApps(t *testing.T) {
	dir, gpus := create(t, fakegpu.Spec{Profile: "T4", Count: 2})
	same(t, "no process", "pid, process_name, used_gpu_memory [MiB]\n", ask(t, "--query-compute-apps=pid,name,used_memory", "--format=csv"))
	check(t, fakegpu.SetProcesses(dir, "1", []fakegpu.Process{
		{PID: 11327, Type: "compute", Memory: 2566 << 20, Name: "/opt/tools/memhog"}, {PID: 5, Type: "graphics", Memory: 1, Name: "X"}}))
	same(t, "a process", "gpu_name, gpu_bus_id, gpu_serial, gpu_uuid, pid, process_name, used_gpu_memory [MiB]\n"+
		"Tesla T4, 00000000:02:00.0, "+gpus[1].Serial+", "+gpus[1].UUID+", 11327, /opt/tools/memhog, 2566 MiB\n",
		ask(t, "--query-compute-apps=gpu_name,gpu_bus_id,gpu_serial,gpu_uuid,pid,process_name,used_gpu_memory", "--format=csv"))
	same(t, "without units", "11327, 2566\n", ask(t, "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"))
	same(t, "of another GPU", "", ask(t, "--query-compute-apps=pid", "--format=csv,noheader", "-i", gpus[0].UUID))
	if out := ask(t, "--query-compute-apps=timestamp", "--format=csv,noheader"); !regexp.MustCompile(`^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3}\n$`).MatchString(out) {
		t.Errorf("timestamp is %q", out)
	}
}

func TestVersion(t *testing.T) {
	create(t, fakegpu.Spec{Profile: "T4", Count: 1})
	same(t, "versions", "NVIDIA-SMI version  : 580.95.05\nNVML version        : 580.95\nDRIVER version      : 580.95.05\nCUDA Version        : 13.0\n", ask(t, "--version"))
}

// TestNamesOfGPUs asks for one GPU in all ways.
func TestNamesOfGPUs(t *testing.T) {
	_, gpus := create(t, fakegpu.Spec{Profile: "T4", Count: 12})
	for _, name := range []string{"10", gpus[10].UUID, gpus[10].Serial, "00000000:0B:00.0", "0000:0b:00.0"} {
		for _, args := range [][]string{{"-i", name}, {"--id=" + name}, {"-i=" + name}, {"--id", name}} {
			same(t, strings.Join(args, " "), "10\n", ask(t, append(args, "--query-gpu=index", "--format=csv,noheader")...))
		}
	}
	same(t, "several", "1\n3\n", ask(t, "--query-gpu", "index", "--format", "csv,noheader", "-i", "3,1"))
}

func TestFile(t *testing.T) {
	create(t, fakegpu.Spec{Profile: "T4", Count: 1})
	log := filepath.Join(t.TempDir(), "log")
	same(t, "what is printed", "", ask(t, "--query-gpu=name", "--format=csv", "-f", log))
	text, err := os.ReadFile(log)
	check(t, err)
	same(t, "the file", "name\nTesla T4\n", string(text))
}

// lines takes lines, one at a time.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

func TestLoop(t *testing.T) {
	dir, _ := create(t, fakegpu.Spec{Profile: "T4", Count: 1})
	check(t, fakegpu.Set(dir, "0", "temperature=30"))
	ctx, stop := context.WithCancel(t.Context())
	out, code := make(lines, 1000), make(chan int)
	go func() {
		code <- smi.Run(ctx, library(), []string{"--query-gpu=temperature.gpu", "--format=csv", "-lms", "5"}, out)
	}()
	next := func(want string) {
		t.Helper()
		timeout := time.After(20 * time.Second)
		for {
			select {
			case got := <-out:
				if got == want {
					return
				}
				if got == "temperature.gpu\n" {
					t.Fatal("the heading is there twice")
				}
			case <-timeout:
				t.Fatalf("no line %q comes", want)
			}
		}
	}
	next("temperature.gpu\n")
	next("30\n")
	next("30\n")
	check(t, fakegpu.Set(dir, "0", "temperature=85"))
	next("85\n")
	stop()
	if got := <-code; got != 0 {
		t.Errorf("it ends with %d, want 0", got)
	}
}
