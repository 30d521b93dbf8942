package fakegpu_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// damage is a state file that something is wrong with.
type damage struct {
	name   string
	text   []byte
	surely bool // it must not be taken; other damage may make a file that is valid
}

func damages(t *testing.T) []damage {
	t.Helper()
	dir := t.TempDir()
	machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 2})
	good := read(t, dir)
	machine(t, dir, fakegpu.Spec{Profile: "T4", Count: fakegpu.MaxGPUs})
	full := string(read(t, dir))

	var all []damage
	add := func(name string, text string) { all = append(all, damage{name, []byte(text), true}) }
	replaced := func(old, new string) string {
		text := strings.Replace(string(good), old, new, 1)
		if text == string(good) {
			t.Fatalf("the state file has no %q", old)
		}
		return text
	}
	for n := 0; n < len(good); n += 7 {
		add(fmt.Sprintf("cut at %d", n), string(good[:n]))
	}
	add("no last newline", strings.TrimSuffix(string(good), "\n"))
	add("text after the end", string(good)+"gpu GPU-more\n")
	add("65 GPUs", strings.Replace(full, "\nend\n", "\ngpu GPU-more\nname more\nend\n", 1))
	add("the same UUID twice", uuidTwice(string(good)))
	add("a long UUID", replaced("gpu GPU-", "gpu "+strings.Repeat("x", 96)))
	add("a very long line", replaced("name ", "name "+strings.Repeat("x", 100_000)))
	add("a file that is too large", strings.Repeat("driver 1\n", 120_000)+string(good))
	add("an unknown key", replaced("power ", "colour "))
	add("a fault without a code", replaced("init 0\n", "init 0\nfault nvmlInit\n"))
	add("a fault with a code too large", replaced("init 0\n", "init 0\nfault nvmlInit 1000 0\n"))
	add("33 faults", replaced("init 0\n", "init 0\n"+strings.Repeat("fault * 0 0\n", 33)))
	add("a process without a name", replaced("power ", "process 1 compute 1 1\npower "))
	add("a process of no type", replaced("power ", "process 1 game 1 1 x\npower "))
	add("33 processes", replaced("power ", strings.Repeat("process 1 compute 1 1 x\n", 33)+"power "))
	add("a MIG device without MIG mode", replaced("power ", "mig MIG-1 1 0 1 1 1 1 19 0\npower "))
	add("a MIG device of too many words", replaced("power ", "mig_mode 1\nmig MIG-1 1 0 1 1 1 1 19 0 1\npower "))
	add("a percentage above 100", replaced("power ", "fan_speed 101\npower "))
	add("a flag that is 2", replaced("power ", "lost 2\npower "))
	add("no name", replaced("name Tesla T4\n", ""))
	add("no driver", replaced("driver ", "nvml "))
	add("a negative number", replaced("cuda ", "cuda -"))
	add("a number that is too large", replaced("\nmemory ", "\nmemory 99999999999999999999"))
	add("more memory used than there is", replaced("\nmemory_reserved ", "\nmemory_used 18446744073709551615\nmemory_reserved "))
	add("more memory reserved than there is", replaced("memory_reserved ", "memory_reserved 9999999999"))
	add("a bus of three digits", replaced("bus 1\n", "bus 256\n"))
	add("a zero byte", replaced("name T", "name \x00"))
	add("no space", replaced("bus 1", "bus"))
	add("a text without a value", replaced("vbios ", "vbios\nvbios "))
	add("an empty text", replaced("vbios ", "vbios \nvbios "))
	add("a wrong text before a right one", replaced("vbios ", "vbios "+strings.Repeat("x", 96)+"\nvbios "))
	add("a wrong number before a right one", replaced("bus 1\n", "bus 256\nbus 1\n"))
	add("a wrong code before a right one", replaced("init 0\n", "init 1000\ninit 0\n"))
	add("33 faults of a GPU", replaced("power ", strings.Repeat("fault * 0 0\n", 33)+"power "))
	add("a GPU's line before the first GPU", "bus 1\n"+string(good))

	random := rand.New(rand.NewPCG(1, 2))
	for i := range 150 {
		text := bytes.Clone(good)
		for range 1 + random.IntN(4) {
			text[random.IntN(len(text))] = byte(random.Uint32())
		}
		all = append(all, damage{fmt.Sprintf("random bytes %d", i), text, false})
	}
	for i := range 50 {
		text := make([]byte, random.IntN(2000))
		for j := range text {
			text[j] = byte(random.Uint32())
		}
		all = append(all, damage{fmt.Sprintf("noise %d", i), text, true})
	}
	return all
}

// uuidTwice gives the second GPU the UUID of the first.
func uuidTwice(text string) string {
	lines := strings.SplitAfter(text, "\n")
	isGPU := func(line string) bool { return strings.HasPrefix(line, "gpu ") }
	first := slices.IndexFunc(lines, isGPU)
	second := first + 1 + slices.IndexFunc(lines[first+1:], isGPU)
	lines[second] = lines[first]
	return strings.Join(lines, "")
}

// TestDamagedState is about clients that have the library open and about new
// ones. A further nvmlInit makes the library look at the file at once.
func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(fakegpu.EnvState, dir)
	lib := nvml.New(nvml.WithLibraryPath(files.library))
	for _, d := range damages(t) {
		gpus := machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 3, Seed: "before"})
		if r := lib.Init(); r != nvml.SUCCESS {
			t.Fatalf("%s: Init on the good state: %v", d.name, r)
		}
		put(t, dir, d.text)
		if r := lib.Init(); r != nvml.SUCCESS {
			t.Errorf("%s: Init again: %v", d.name, r)
		} else {
			lib.Shutdown()
		}
		kept := uuids(t, lib)
		lib.Shutdown()

		r := lib.Init()
		if r == nvml.SUCCESS {
			lib.Shutdown()
		}
		if r != nvml.ERROR_UNKNOWN && (d.surely || r != nvml.SUCCESS) {
			t.Errorf("%s: Init of a new client: %v, want %v", d.name, r, nvml.ERROR_UNKNOWN)
		}
		if r == nvml.ERROR_UNKNOWN {
			if diff := cmp.Diff(uuidsOf(gpus), kept); diff != "" {
				t.Errorf("%s: the client has lost the last good state (-want +got):\n%s", d.name, diff)
			}
		}
	}
}

// FuzzState gives the library and Load the same texts: both must take them, or
// neither, and then see the same GPUs. Whatever the text, the library lives.
func FuzzState(f *testing.F) {
	dir := f.TempDir()
	for _, spec := range []fakegpu.Spec{{Profile: "T4", Count: 1}, {Profile: "H100-80GB", Count: 2}, {Profile: "T4", InitError: 9}} {
		if _, err := fakegpu.Create(dir, spec); err != nil {
			f.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "state"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("driver 1\nnvml 1\ncuda 1\nfault * 0 0\ngpu GPU-1\nname n\nmemory 5\nmig_mode 1\nmig MIG-1 1 0 1 1 1 1 19 0\n" +
		"process 1 mps 1 1 a b\nfault nvmlInit 999 1\nend\n"))
	const machine = "driver 1\nnvml 1\n"
	for _, text := range []string{
		machine + "cuda 010\nend\n", machine + "driver \nend\n", machine + "driver\nend\n",
		machine + "gpu GPU-1\nname n\nvbios\nend\n", machine + "gpu GPU-1\nname n\nvbios \nend\n",
		machine + "gpu GPU-1\nname n\nfans 17\nfans 1\nend\n",
	} {
		f.Add([]byte(text))
	}
	f.Setenv(fakegpu.EnvState, dir)
	lib := nvml.New(nvml.WithLibraryPath(files.library))
	f.Fuzz(func(t *testing.T, text []byte) {
		put(t, dir, text)
		m, err := fakegpu.Load(dir)
		want := nvml.ERROR_UNKNOWN
		if err == nil {
			want = nvml.Return(m.Init)
			for _, fault := range m.Faults {
				if fault.Function == "nvmlInit_v2" {
					return // it would answer something else, or late
				}
			}
		}
		got := lib.Init()
		if got == nvml.SUCCESS {
			defer lib.Shutdown()
		}
		if got != want {
			t.Fatalf("Init gives %v, want %v: Load says %v", got, want, err)
		}
		if slices.ContainsFunc(m.Faults, func(f fakegpu.Fault) bool { return f.HangMS > 0 }) {
			return // the next calls would take their time
		}
		if count, r := lib.DeviceGetCount(); got == nvml.SUCCESS && r == nvml.SUCCESS && count != len(m.GPUs) {
			t.Errorf("%d GPUs, Load finds %d", count, len(m.GPUs))
		}
		if cuda, r := lib.SystemGetCudaDriverVersion_v2(); got == nvml.SUCCESS && r == nvml.SUCCESS && uint64(cuda) != m.CUDA {
			t.Errorf("CUDA %d, Load finds %d", cuda, m.CUDA)
		}
	})
}

// TestFuzzWorkersBuildNothing fuzzes where there is no compiler.
func TestFuzzWorkersBuildNothing(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "")
	out, err := output(self, "-test.run=^$", "-test.fuzz=^FuzzState$", "-test.fuzztime=20x", "-test.parallel=2", "-test.fuzzcachedir="+t.TempDir())
	if err != nil || !strings.Contains(out, "execs: 2") {
		t.Errorf("fuzzing says %v, want 20 or more runs:\n%s", err, out)
	}
}

func read(t *testing.T, dir string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// put replaces the state file as Create does.
func put(t *testing.T, dir string, text []byte) {
	t.Helper()
	next := filepath.Join(dir, "next")
	if err := os.WriteFile(next, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
}
