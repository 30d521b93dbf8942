package fakegpu_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/studioml/studio-go-runner/fakegpu"
)

func TestFaults(t *testing.T) {
	lib, dir, gpus := open(t, fakegpu.Spec{Profile: "H100-80GB", Count: 2})
	first, _ := lib.DeviceGetHandleByIndex(0)
	second, _ := lib.DeviceGetHandleByIndex(1)
	power := func(d nvml.Device) func() nvml.Return {
		return func() nvml.Return { _, r := d.GetPowerUsage(); return r }
	}
	count := func() nvml.Return { _, r := lib.DeviceGetCount(); return r }
	stub := func() nvml.Return { _, r := first.GetPdi(); return r }
	want := func(what string, ask func() nvml.Return, want nvml.Return) {
		t.Helper()
		until(t, fmt.Sprintf("%s answers %v", what, want), func() bool { return ask() == want })
	}

	check(t, fakegpu.Inject(dir, "0", fakegpu.Fault{Function: "nvmlDeviceGetPowerUsage", Code: uint64(nvml.ERROR_UNKNOWN)}))
	want("the GPU with the fault", power(first), nvml.ERROR_UNKNOWN)
	want("the other GPU", power(second), nvml.SUCCESS)
	check(t, fakegpu.Inject(dir, "0", fakegpu.Fault{Function: "nvmlDeviceGetPdi", Code: uint64(nvml.ERROR_MEMORY)}))
	want("a function that is not modelled", stub, nvml.ERROR_MEMORY)
	check(t, fakegpu.Inject(dir, "1", fakegpu.Fault{Function: "*", Code: uint64(nvml.ERROR_RESET_REQUIRED)}))
	want("every function", power(second), nvml.ERROR_RESET_REQUIRED)
	want("a function about the machine", count, nvml.SUCCESS)
	check(t, fakegpu.Inject(dir, "", fakegpu.Fault{Function: "nvmlDeviceGetCount_v2", Code: uint64(nvml.ERROR_NO_DATA)}))
	want("a function about the machine", count, nvml.ERROR_NO_DATA)
	handle := func(i int) func() nvml.Return {
		return func() nvml.Return { _, r := lib.DeviceGetHandleByIndex(i); return r }
	}
	want("every function, also what gives the handle", handle(1), nvml.ERROR_RESET_REQUIRED)
	check(t, fakegpu.Inject(dir, "0", fakegpu.Fault{Function: "nvmlDeviceGetHandleByIndex_v2", Code: uint64(nvml.ERROR_NO_PERMISSION)}))
	want("what gives the handle", handle(0), nvml.ERROR_NO_PERMISSION)
	refused(t, fakegpu.Inject(dir, "0", fakegpu.Fault{Function: "nvmlDeviceGetCount_v2", Code: 1}), "which is about no GPU; name the machine")
	check(t, fakegpu.Heal(dir, "all"))
	want("the healed GPU", power(first), nvml.SUCCESS)
	want("the healed GPU's handle", handle(0), nvml.SUCCESS)
	want("the healed machine", count, nvml.SUCCESS)

	check(t, fakegpu.Set(dir, "1", "lost=1"))
	want("the lost GPU", power(second), nvml.ERROR_GPU_IS_LOST)
	for name, code := range map[string]nvml.Return{gpus[1].UUID: nvml.ERROR_GPU_IS_LOST, "GPU-none": nvml.ERROR_GPU_IS_LOST, gpus[0].UUID: nvml.SUCCESS} {
		if _, r := lib.DeviceGetHandleByUUID(name); r != code {
			t.Errorf("DeviceGetHandleByUUID(%s) while a GPU is lost: %v, want %v", name, r, code)
		}
	}
	set, _ := lib.EventSetCreate()
	defer set.Free()
	if r := second.RegisterEvents(nvml.EventTypeXidCriticalError, set); r != nvml.ERROR_GPU_IS_LOST {
		t.Errorf("RegisterEvents of a lost GPU: %v", r)
	}
	check(t, fakegpu.Heal(dir, "1"))
	want("the GPU that was lost", power(second), nvml.SUCCESS)
	if r := second.RegisterEvents(nvml.EventTypeXidCriticalError, set); r != nvml.SUCCESS {
		t.Errorf("RegisterEvents of a healed GPU: %v", r)
	}
	waited := make(chan nvml.Return)
	go func() { _, r := set.Wait(60_000); waited <- r }()
	check(t, fakegpu.Set(dir, "1", "lost=1"))
	if r := <-waited; r != nvml.ERROR_GPU_IS_LOST {
		t.Errorf("Wait while a GPU is lost: %v", r)
	}
}

func TestInitThatFailsAndThenDoesNot(t *testing.T) {
	dir := t.TempDir()
	machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 1})
	t.Setenv(fakegpu.EnvState, dir)
	lib := nvml.New(nvml.WithLibraryPath(files.library))
	check(t, fakegpu.Inject(dir, "", fakegpu.Fault{Function: "nvmlInit_v2", Code: uint64(nvml.ERROR_NO_PERMISSION)}))
	if r := lib.Init(); r != nvml.ERROR_NO_PERMISSION {
		t.Errorf("Init: %v, want the fault", r)
	}
	check(t, fakegpu.Heal(dir, "all"))
	if r := lib.Init(); r != nvml.SUCCESS {
		t.Fatalf("Init after the machine was healed: %v", r)
	}
	lib.Shutdown()
}

// TestHangHoldsUpOnlyItsOwnCall has one thread that waits in NVML, and another
// that goes on. A machine that stands still meanwhile is given more time.
func TestHangHoldsUpOnlyItsOwnCall(t *testing.T) {
	lib, dir, _ := open(t, fakegpu.Spec{Profile: "T4", Count: 2})
	first, _ := lib.DeviceGetHandleByIndex(0)
	second, _ := lib.DeviceGetHandleByIndex(1)
	for hang := 1500 * time.Millisecond; ; hang *= 4 {
		check(t, fakegpu.Inject(dir, "0", fakegpu.Fault{Function: "nvmlDeviceGetName", HangMS: uint64(hang.Milliseconds())}))
		check(t, fakegpu.Set(dir, "1", fmt.Sprintf("power=%d", hang.Milliseconds())))
		until(t, "the new state is seen", func() bool { mW, _ := second.GetPowerUsage(); return int64(mW) == hang.Milliseconds() })
		over := make(chan nvml.Return)
		start := time.Now()
		go func() { _, r := first.GetName(); over <- r }()
		calls := 0
		for r := nvml.Return(-1); r < 0; {
			select {
			case r = <-over:
				if took := time.Since(start); r != nvml.SUCCESS || took < hang {
					t.Fatalf("the call that hangs answers %v after %v, want success after %v", r, took, hang)
				}
			default:
				if _, r := second.GetName(); r != nvml.SUCCESS {
					t.Errorf("GetName of the other GPU: %v", r)
				}
				calls++
			}
		}
		if calls >= 100 {
			return
		} else if hang > 20*time.Second {
			t.Fatalf("%d calls of another thread meanwhile, want many", calls)
		}
	}
}

// TestTwoProcessesSeeTheSameEvents is about the journal: each has all of it.
func TestTwoProcessesSeeTheSameEvents(t *testing.T) {
	dir := t.TempDir()
	machine(t, dir, fakegpu.Spec{Profile: "H100-80GB", Count: 2})
	check(t, fakegpu.SplitMIG(dir, "1", "1g.10gb", "3g.40gb"))
	var outputs [2]chan string
	for i := range outputs {
		outputs[i] = make(chan string)
		go func() { outputs[i] <- run(t, files.variants["plain"], dir, "now", "watch", "200") }()
		until(t, "the watcher has registered", func() bool {
			ready, _ := filepath.Glob(filepath.Join(dir, "ready.*"))
			return len(ready) > i
		})
	}
	var want []string
	for n := range 200 {
		check(t, fakegpu.RaiseXid(dir, fmt.Sprint(n%2), uint64(1000+n)))
		want = append(want, fmt.Sprint(1000+n))
	}
	for i, output := range outputs {
		if got := strings.Fields(<-output); !slices.Equal(got, want) {
			t.Errorf("process %d has seen %v, want %v", i, got, want)
		}
	}
}

func TestTrace(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace")
	t.Setenv(fakegpu.EnvTrace, trace)
	lib, _, gpus := open(t, fakegpu.Spec{Profile: "T4", Count: 1})
	device, _ := lib.DeviceGetHandleByIndex(0)
	_, code := device.GetFanSpeed()
	lib.ErrorString(code)
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"nvmlInit_v2() = 0\n", "nvmlDeviceGetHandleByIndex_v2(" + gpus[0].UUID + ") = 0\n", "nvmlDeviceGetFanSpeed(" + gpus[0].UUID + ") = 3\n", "nvmlErrorString() = 0\n"} {
		if !strings.Contains(string(text), fmt.Sprint(" ", os.Getpid(), " ", line)) {
			t.Errorf("the trace has no %q:\n%s", line, text)
		}
	}
}

// BenchmarkCall measures calls when nothing changes, on a machine with 64 GPUs.
func BenchmarkCall(b *testing.B) {
	dir := b.TempDir()
	if _, err := fakegpu.Create(dir, fakegpu.Spec{Profile: "H100-80GB", Count: 64}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		out, err := outputWith(append(os.Environ(), fakegpu.EnvState+"="+dir), files.client, files.library, "now", "bench")
		if err != nil {
			b.Fatal(err)
		}
		words := strings.Fields(out)
		for i := 0; i < len(words); i += 2 {
			var ns float64
			fmt.Sscan(words[i+1], &ns)
			b.ReportMetric(ns, words[i]+"-ns/call")
		}
	}
	b.ReportMetric(0, "ns/op") // of no meaning here
}

// BenchmarkChange measures how long it takes from the moment when a change was
// asked for until a client that asks all the time has seen it, with 64 GPUs.
func BenchmarkChange(b *testing.B) {
	dir := b.TempDir()
	if _, err := fakegpu.Create(dir, fakegpu.Spec{Profile: "H100-80GB", Count: 64}); err != nil {
		b.Fatal(err)
	}
	b.Setenv(fakegpu.EnvState, dir)
	lib := nvml.New(nvml.WithLibraryPath(files.library))
	if r := lib.Init(); r != nvml.SUCCESS {
		b.Fatal(r)
	}
	defer lib.Shutdown()
	device, _ := lib.DeviceGetHandleByIndex(63)
	var write, seen []time.Duration
	for n := 0; b.Loop(); n++ {
		want := uint32(20 + n%60)
		start := time.Now()
		if err := fakegpu.Set(dir, "63", fmt.Sprint("temperature=", want)); err != nil {
			b.Fatal(err)
		}
		written := time.Now()
		for {
			if got, r := device.GetTemperature(nvml.TEMPERATURE_GPU); r == nvml.SUCCESS && got == want {
				break
			}
		}
		write, seen = append(write, written.Sub(start)), append(seen, time.Since(written))
	}
	for what, all := range map[string][]time.Duration{"write": write, "seen": seen} {
		slices.Sort(all)
		for _, q := range []int{50, 99, 100} {
			b.ReportMetric(float64(all[(len(all)-1)*q/100].Microseconds())/1000, fmt.Sprintf("%s-p%d-ms", what, q))
		}
	}
}
