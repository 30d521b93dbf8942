package capture_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/fakegpu"
	"github.com/studioml/studio-go-runner/fakegpu/capture"
	"github.com/studioml/studio-go-runner/fakegpu/internal/shimtest"
	"github.com/studioml/studio-go-runner/fakegpu/smi"
)

var library string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "capture-test-*")
		if err == nil {
			defer os.RemoveAll(dir)
			library, err = shimtest.Build(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "build the fake library:", err)
			return 1
		}
		return m.Run()
	}())
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// create makes a machine that the library sees.
func create(t *testing.T, profile string, count int) string {
	t.Helper()
	dir := t.TempDir()
	_, err := fakegpu.Create(dir, fakegpu.Spec{Profile: profile, Count: count})
	check(t, err)
	t.Setenv(fakegpu.EnvState, dir)
	return dir
}

func open() nvml.Interface { return nvml.New(nvml.WithLibraryPath(library)) }

// everything reads all that nvidia-smi shows of the first GPU, as it would of a
// card beside it: this is the one reader for both.
func everything(t *testing.T) map[string]string {
	t.Helper()
	ask := func(args ...string) string {
		var out bytes.Buffer
		if code := smi.Run(context.Background(), open(), args, &out); code != 0 {
			t.Fatalf("nvidia-smi %q ends with %d:\n%s", args, code, &out)
		}
		return strings.TrimSuffix(out.String(), "\n")
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^\n"([^"]*)"`).FindAllStringSubmatch(ask("--help-query-gpu"), -1) {
		if m[1] != "timestamp" {
			names = append(names, m[1])
		}
	}
	values := make(map[string]string)
	for i, value := range strings.Split(ask("-i", "0", "--query-gpu="+strings.Join(names, ","), "--format=csv,noheader"), ", ") {
		values[names[i]] = value
	}
	return values
}

// state is the first GPU of a machine, without keys that say nothing.
func state(t *testing.T, dir string) fakegpu.GPU {
	t.Helper()
	m, err := fakegpu.Load(dir)
	check(t, err)
	maps.DeleteFunc(m.GPUs[0].Numbers, func(_ string, n uint64) bool { return n == 0 })
	return m.GPUs[0]
}

// TestRoundTrip makes fake GPUs of what was captured from fake GPUs.
func TestRoundTrip(t *testing.T) {
	for _, profile := range fakegpu.Profiles() {
		t.Run(profile, func(t *testing.T) { roundTrip(t, profile) })
	}
	// Without what a GPU has at rest if nothing is said of it.
	t.Run("nothing", func(t *testing.T) {
		roundTrip(t, "H200", "temperature_memory=0", "app_clock_graphics=0", "app_clock_memory=0", "clock_reasons=0", "persistence=0", "bar1_used=0")
	})
	t.Run("all", func(t *testing.T) {
		roundTrip(t, "RTX-4090", "pstate=8", "clock_sm=405", "fan_speed=38", "persistence=1", "compute_mode=3", "accounting=1", "clock_reasons=4", "bar1_used=9Mi")
	})
}

// roundTrip compares a GPU, with values of its own, with one that is made of its
// capture.
func roundTrip(t *testing.T, profile string, values ...string) {
	original := create(t, profile, 1)
	check(t, fakegpu.Set(original, "0", values...))
	shown := everything(t)
	captured, err := capture.Profile(open(), "0")
	check(t, err)
	file := filepath.Join(t.TempDir(), "card.yaml")
	check(t, os.WriteFile(file, captured, 0o644))

	again := create(t, file, 1)
	if diff := cmp.Diff(state(t, original), state(t, again)); diff != "" {
		t.Errorf("the GPU (-original +captured):\n%s", diff)
	}
	if diff := cmp.Diff(shown, everything(t)); diff != "" {
		t.Errorf("what nvidia-smi shows (-original +captured):\n%s", diff)
	}
}

func TestChangedGPU(t *testing.T) {
	dir := create(t, "H100-80GB", 2)
	check(t, fakegpu.Set(dir, "1", "name=Mine", "memory=96Gi", "power_limit=500000"))
	m, err := fakegpu.Load(dir)
	check(t, err)
	captured, err := capture.Profile(open(), m.GPUs[1].UUID)
	check(t, err)
	for _, want := range []string{"# Mine.\n# *: fakegpu capture, through NVML of driver 580.95.05", "\nname: Mine\n", "\nmemory: 103079215104\n", "\npower_limit: 500000\n"} {
		if !strings.Contains(string(captured), want) {
			t.Errorf("the profile has no %q:\n%s", want, captured)
		}
	}
}

// hopper is a library whose driver tells the limits of the temperature as those
// since Hopper do: as distances to the limit of the GPU.
type hopper struct{ nvml.Interface }

func (h hopper) DeviceGetHandleByIndex(i int) (nvml.Device, nvml.Return) {
	d, r := h.Interface.DeviceGetHandleByIndex(i)
	return device{d}, r
}

type device struct{ nvml.Device }

func (device) GetTemperatureThreshold(nvml.TemperatureThresholds) (uint32, nvml.Return) {
	return 0, nvml.ERROR_NOT_SUPPORTED
}

func (device) GetMarginTemperature() (nvml.MarginTemperature, nvml.Return) {
	return nvml.MarginTemperature{MarginTemperature: 58}, nvml.SUCCESS
}

func (device) GetTemperature(nvml.TemperatureSensors) (uint32, nvml.Return) { return 29, nvml.SUCCESS }

func (device) GetFieldValues(values []nvml.FieldValue) nvml.Return {
	distance := map[uint32]int8{nvml.FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT: -8, nvml.FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT: -2, nvml.FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT: 0}
	values[0].Value = [8]byte{byte(distance[values[0].FieldId]), 0xff, 0xff, 0xff}
	return nvml.SUCCESS
}

func TestLimitsAsDistances(t *testing.T) {
	create(t, "H100-80GB", 1)
	captured, err := capture.Profile(hopper{open()}, "0")
	check(t, err)
	if want := "temperature_slowdown: 89\ntemperature_shutdown: 95\ntemperature_max: 87\n"; !strings.Contains(string(captured), want) {
		t.Errorf("the profile has no %q:\n%s", want, captured)
	}
}

// moved is a card that changes while it is read.
type moved struct{ nvml.Interface }

func (m moved) DeviceGetHandleByIndex(i int) (nvml.Device, nvml.Return) {
	d, r := m.Interface.DeviceGetHandleByIndex(i)
	return moving{d}, r
}

type moving struct{ nvml.Device }

func (moving) GetPowerUsage() (uint32, nvml.Return) { return 701_234, nvml.SUCCESS }

func (moving) GetClockInfo(kind nvml.ClockType) (uint32, nvml.Return) {
	return map[nvml.ClockType]uint32{nvml.CLOCK_GRAPHICS: 1981, nvml.CLOCK_SM: 1474, nvml.CLOCK_MEM: 2618, nvml.CLOCK_VIDEO: 1501}[kind], nvml.SUCCESS
}

// TestWhatMovesIsFitted: create takes whatever was captured.
func TestWhatMovesIsFitted(t *testing.T) {
	create(t, "H100-80GB", 1)
	captured, err := capture.Profile(moved{open()}, "0")
	check(t, err)
	file := filepath.Join(t.TempDir(), "card.yaml")
	check(t, os.WriteFile(file, captured, 0o644))
	n := state(t, create(t, file, 1)).Numbers
	got := []uint64{n["power"], n["clock_graphics"], n["clock_sm"], n["clock_memory"], n["clock_video"]}
	if diff := cmp.Diff([]uint64{700_000, 1980, 1980, 2619, 1501}, got); diff != "" {
		t.Errorf("power and clocks (-want +got):\n%s", diff)
	}
}

func TestRefused(t *testing.T) {
	dir := create(t, "H100-80GB", 2)
	check(t, fakegpu.SplitMIG(dir, "0", "3g.40gb"))
	check(t, fakegpu.Inject(dir, "1", fakegpu.Fault{Function: "nvmlDeviceGetName", Code: 4}))
	for gpu, want := range map[string]string{
		"0": "divided", "7": "Invalid Argument", "GPU-none": "Not Found", "first": `"first"`, "1x": `"1x"`, "1": "read name of GPU 1: Insufficient Permissions",
	} {
		if _, err := capture.Profile(open(), gpu); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("capture of %s gives %v, want %q", gpu, err, want)
		}
	}
	check(t, fakegpu.SetInit(dir, 9))
	if _, err := capture.Profile(open(), "1"); err == nil || !strings.Contains(err.Error(), "Driver Not Loaded") {
		t.Errorf("capture without a driver gives %v", err)
	}
}
