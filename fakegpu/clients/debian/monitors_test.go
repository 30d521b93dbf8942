package debian

import (
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestNvtop reads nvtop's screen: it has no other output.
func TestNvtop(t *testing.T) {
	c := exec.CommandContext(t.Context(), "script", "-qec", "stty cols 200 rows 50; exec "+unpacked("nvtop")+" -C -d 1", "/dev/null")
	c.Env = environment(machine(t), "TERM=xterm", "HOME="+t.TempDir())
	keys, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	screen, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { c.Process.Kill() })
	defer timer.Stop()
	// The first screen does not have the utilization yet; it is that of the
	// processes, if they have less than the GPU.
	active := fmt.Sprintf("%d%%", gpu.active)
	seen := read(screen, active, func() { io.WriteString(keys, "q") })
	if err := c.Wait(); err != nil {
		t.Errorf("nvtop: %v", err)
	}
	says(t, seen, "Device 1 [NVIDIA H100 80GB HBM3]", fmt.Sprintf("GPU %dMHz", gpu.clock), fmt.Sprintf("TEMP  %d", gpu.temperature),
		fmt.Sprintf("POW %d / %d W", gpu.power/1000, gpu.limit/1000), active, fmt.Sprintf("%.3fGi/", float64(gpu.used)/(1<<30)))
}

// moves are what a terminal does instead of writing a character.
var moves = regexp.MustCompile(`\x1b(\[[0-9;?]*[A-Za-z]|\([0B]|[=>])`)

// read returns all that is written until the end, without what moves the cursor.
// Once the word was there, it calls stop.
func read(screen io.Reader, word string, stop func()) string {
	var all, text string
	chunk := make([]byte, 4096)
	for stopped := false; ; {
		n, err := screen.Read(chunk)
		if err != nil {
			return text
		}
		all += string(chunk[:n])
		text = moves.ReplaceAllString(all, "")
		if !stopped && strings.Contains(text, word) {
			stopped = true
			stop()
		}
	}
}

// TestPCP loads PCP's agent for NVIDIA's GPUs into PCP's debugger of agents.
func TestPCP(t *testing.T) {
	agent := filepath.Join(root, "usr", "lib", "pcp", "pmdas", "nvidia", "pmda_nvidia.so")
	names := filepath.Join(t.TempDir(), "names")
	write(t, names, "root { nvidia }\nnvidia {\nnumcards 120:0:0\ncardname 120:0:2\ntemperature 120:0:4\ngpuactive 120:0:7\nmemused 120:0:9\nmemtotal 120:0:10\ncarduuid 120:0:19\npower 120:0:21\nnprocs 120:0:22\n}\n")
	script := "open dso " + agent + " nvidia_init 120\n"
	for _, metric := range []string{"numcards", "cardname", "temperature", "gpuactive", "memused", "memtotal", "carduuid", "power", "nprocs"} {
		script += "fetch nvidia." + metric + "\n"
	}
	out := output(t, machine(t), script, unpacked("dbpmda"), "-n", names)
	second := func(metric, value string) {
		t.Helper()
		if !regexp.MustCompile(`\(nvidia\.` + metric + `\): numval: 2 .*\n.*\n +inst \[1 or \?\?\?\] value ` + regexp.QuoteMeta(value) + `\b`).MatchString(out) {
			t.Errorf("%s of the second GPU is not %s:\n%s", metric, value, out)
		}
	}
	says(t, out, "(nvidia.numcards): numval: 1 valfmt: 0 vlist[]:\n   value 2 ")
	second("cardname", `"NVIDIA H100 80GB HBM3`)
	second("carduuid", `"`+gpu.uuids[1])
	for metric, value := range map[string]uint64{"temperature": gpu.temperature, "gpuactive": gpu.active, "memused": gpu.used, "memtotal": gpu.memory, "power": gpu.power, "nprocs": 2} {
		second(metric, fmt.Sprint(value))
	}
}

// TestLstopo has hwloc show the GPUs as parts of the machine.
func TestLstopo(t *testing.T) {
	state := machine(t)
	out := output(t, state, "", unpacked("lstopo-no-graphics"), "--of", "xml", "--whole-io")
	for i, uuid := range gpu.uuids {
		says(t, out, fmt.Sprintf(`name="nvml%d" subtype="NVML"`, i), `<info name="NVIDIAUUID" value="`+uuid+`"/>`)
	}
	says(t, out, `<info name="GPUModel" value="NVIDIA H100 80GB HBM3"/>`)
	if n := strings.Count(out, `subtype="NVML"`); n != 2 {
		t.Errorf("it shows %d GPUs, want 2", n)
	}
}
