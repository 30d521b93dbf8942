package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/fakegpu"
	"github.com/studioml/studio-go-runner/fakegpu/internal/shimtest"
)

// shim is the real library, for the tests that read GPUs.
var shim string

// TestMain is the command, where a test runs this program by one of its names.
func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); name == nvidiaSMI || name == "fakegpu" {
		main()
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "fakegpu-cmd-*")
		if err == nil {
			defer os.RemoveAll(dir)
			shim, err = shimtest.Build(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "build the fake library:", err)
			return 1
		}
		return m.Run()
	}())
}

// script runs a shell script in which nvidia-smi is this program.
func script(t *testing.T, state, text string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, nvidiaSMI)); err != nil {
		t.Fatal(err)
	}
	sh := exec.Command("sh", "-c", text)
	sh.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), fakegpu.EnvState+"="+state, "FAKEGPU_LIBRARY="+shim, "GORACE=atexit_sleep_ms=0")
	out, err := sh.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", text, err, out)
	}
	return string(out)
}

// TestScripts has what people do with nvidia-smi in scripts.
func TestScripts(t *testing.T) {
	dir := t.TempDir()
	succeed(t, "create", dir, "--profile", "H100-80GB", "--count", "4")
	succeed(t, "set", dir, "all", "memory_used=70000Mi", "utilization_gpu=95", "temperature=60", "power=650500", "memory_reserved=500Mi")
	succeed(t, "set", dir, "2", "memory_used=12Mi", "utilization_gpu=0", "temperature=35", "--process", "4242=11Mi,name=python3 train.py")
	succeed(t, "set", dir, "3", "temperature=88")
	succeed(t, "inject", "ecc", dir, "1", "--uncorrected")
	gpus := load(t, dir).GPUs
	for _, test := range []struct{ name, script, want string }{
		{"count the GPUs", `nvidia-smi -L | wc -l | tr -d ' '`, "4\n"},
		{"is there one at all", `if nvidia-smi >/dev/null 2>&1; then echo yes; fi`, "yes\n"},
		{"the freest GPU", `nvidia-smi --query-gpu=index,memory.used --format=csv,noheader,nounits | sort -t, -k2 -n | head -n 1 | cut -d, -f1`, "2\n"},
		{"memory in use, added", `nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | awk '{ s += $1 } END { print s }'`, "210012\n"},
		{"memory of the smallest", `nvidia-smi --query-gpu=memory.total --format=csv,noheader | sed 's/ MiB//' | sort -n | head -1`, "81559\n"},
		{"version of the driver", `nvidia-smi --query-gpu=driver_version --format=csv,noheader --id=0`, "580.95.05\n"},
		{"version of CUDA out of the table", `nvidia-smi | sed -n 's/.*CUDA Version: *\([0-9.]*\).*/\1/p'`, "13.0\n"},
		{"version of the driver out of the table", `nvidia-smi | grep 'Driver Version' | awk '{ print $6 }'`, "580.95.05\n"},
		{"memory and use out of the table", `nvidia-smi | grep -o '[0-9]*MiB / *[0-9]*MiB' | sed -n 3p; nvidia-smi | grep Default | awk '{ print $13 }' | head -2`, "12MiB /  81559MiB\n95%\n95%\n"},
		{"UUIDs for CUDA_VISIBLE_DEVICES", `nvidia-smi -L | sed -n 's/.*UUID: \(GPU-[^)]*\)).*/\1/p' | paste -sd, -`,
			gpus[0].UUID + "," + gpus[1].UUID + "," + gpus[2].UUID + "," + gpus[3].UUID + "\n"},
		{"who uses the GPUs", `nvidia-smi --query-compute-apps=pid,used_memory --format=csv,noheader | while IFS=', ' read pid used unit; do echo "$pid has $used"; done`, "4242 has 11\n"},
		{"the models", `nvidia-smi --query-gpu=gpu_name --format=csv,noheader | sort | uniq -c | sed 's/^ *//'`, "4 NVIDIA H100 80GB HBM3\n"},
		{"a hot GPU", `nvidia-smi --query-gpu=index,temperature.gpu --format=csv,noheader | awk -F', ' '$2 > 80 { print "GPU " $1 " has " $2 }'`, "GPU 3 has 88\n"},
		{"power of all", `nvidia-smi --query-gpu=power.draw --format=csv,noheader,nounits | awk '{ s += $1 } END { printf "%.1f\n", s }'`, "2602.0\n"},
		{"memory errors", `nvidia-smi --query-gpu=index,ecc.errors.uncorrected.volatile.total --format=csv,noheader,nounits | grep -v ', 0$'`, "1, 1\n"},
		{"columns by name", `nvidia-smi --query-gpu=uuid,clocks.max.sm,pstate --format=csv | awk -F', ' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } NR == 2 { print $at["clocks.max.sm [MHz]"] }'`, "1980 MHz\n"},
		{"capability", `nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n1 | tr -d .`, "90\n"},
		{"a log", `nvidia-smi --query-gpu=timestamp,index --format=csv -lms 20 | head -n 9 | grep -c '^[0-9/]* [0-9:.]*, [0-3]$'`, "8\n"},
		{"ask for the version first", `nvidia-smi --version | grep 'DRIVER version' | cut -d: -f2 | tr -d ' '`, "580.95.05\n"},
		{"all that Python's GPUtil asks", `nvidia-smi --query-gpu=index,uuid,utilization.gpu,memory.total,memory.used,memory.free,driver_version,name,gpu_serial,display_active,display_mode,temperature.gpu --format=csv,noheader,nounits | awk -F', ' 'NR == 4 { print NF, $1, $3, $4, $5, $10, $12 }'`,
			"12 3 95 81559 70000 Disabled 88\n"},
		{"all that there is, as exporters ask", `all=$(nvidia-smi --help-query-gpu | awk '/^$/ { after = 1; next } after && /^"/ { split($0, n, "\""); print n[2] } { after = 0 }' | paste -sd, -)
			nvidia-smi --query-gpu="$all" --format=csv | awk -F', ' '{ print (NF > 150) }' | uniq -c | tr -s ' '`, " 5 1\n"},
		{"no such GPU", `nvidia-smi -i 9 || echo "ends with $?"`, "No devices were found\nends with 6\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, script(t, dir, test.script)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.script, diff)
			}
		})
	}
}

// TestSMI calls it by its place in fakegpu, where its exit code is passed on.
func TestSMI(t *testing.T) {
	dir := t.TempDir()
	succeed(t, "create", dir, "--count", "2")
	t.Setenv(fakegpu.EnvState, dir)
	if out := succeed(t, "--library", shim, "smi", "-L"); strings.Count(out, "Tesla T4") != 2 {
		t.Errorf("the list is:\n%s", out)
	}
	if out := succeed(t, "smi", "--help"); !strings.Contains(out, "--query-gpu=") {
		t.Errorf("the help is:\n%s", out)
	}
	succeed(t, "inject", "init", dir, "9")
	if code, out, stderr := called("--library", shim, "smi"); code != 9 || stderr != "" {
		t.Errorf("exits with %d and says %q and %q, want 9", code, out, stderr)
	}
}

func TestCapture(t *testing.T) {
	dir := t.TempDir()
	succeed(t, "create", dir, "--profile", "L4")
	t.Setenv(fakegpu.EnvState, dir)
	file := filepath.Join(t.TempDir(), "card.yaml")
	if err := os.WriteFile(file, []byte(succeed(t, "--library", shim, "capture")), 0o644); err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	succeed(t, "create", again, "--gpus", file+"=2")
	if got := load(t, again).GPUs; len(got) != 2 || got[1].Name != "NVIDIA L4" {
		t.Errorf("the GPUs of the profile are %+v", got)
	}
	if answers := succeed(t, "--library", shim, "capture", "--answers"); !strings.Contains(answers, "\nGetName() = \"NVIDIA L4\" ret 0\n") {
		t.Errorf("the answers do not say what GPU it is:\n%.300s", answers)
	}
	if code, _, stderr := called("--library", shim, "capture", "9"); code != 1 || !strings.Contains(stderr, "nvidia-smi -L lists them") {
		t.Errorf("capture of no GPU exits with %d and says %q", code, stderr)
	}
	if code, _, stderr := called("create", again, "--profile", "/no/such.yaml"); code != 1 || !strings.Contains(stderr, "/no/such.yaml") {
		t.Errorf("create of no file exits with %d and says %q", code, stderr)
	}
}
