package gpu

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"

	"github.com/studioml/studio-go-runner/runner/api"
)

// What each answer of NVML is a sign of.
func TestReadSigns(t *testing.T) {
	fail := nvml.ERROR_UNKNOWN
	before := signs{failure: errors.New("of the last time"), uncorrected: 1, remapPending: true, remapFailed: true, retirePending: true, recovery: 1}
	for name, test := range map[string]struct {
		change  func(*mock.Device)
		before  signs
		want    signs
		counted bool // NVML has told how many errors there are
	}{
		"no such things": {func(*mock.Device) {}, before, signs{}, true},
		"a GPU that does not even tell its name": {func(d *mock.Device) {
			d.GetNameFunc = func() (string, nvml.Return) { return "", nvml.ERROR_GPU_IS_LOST }
		}, signs{uncorrected: 1, retirePending: true}, signs{failure: nvml.ERROR_GPU_IS_LOST, uncorrected: 1, retirePending: true}, false},
		"all of them": {func(d *mock.Device) {
			d.GetTotalEccErrorsFunc = func(kind nvml.MemoryErrorType, since nvml.EccCounterType) (uint64, nvml.Return) {
				if kind != nvml.MEMORY_ERROR_TYPE_UNCORRECTED || since != nvml.VOLATILE_ECC {
					t.Errorf("asked for errors of kind %d since %d", kind, since)
				}
				return 7, nvml.SUCCESS
			}
			d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 0, true, true, nvml.SUCCESS }
			d.GetRetiredPagesPendingStatusFunc = func() (nvml.EnableState, nvml.Return) { return nvml.FEATURE_ENABLED, nvml.SUCCESS }
		}, signs{}, signs{uncorrected: 7, remapPending: true, remapFailed: true, retirePending: true}, true},
		"none of them any more": {func(d *mock.Device) {
			d.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) { return 0, nvml.SUCCESS }
			d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 0, false, false, nvml.SUCCESS }
			d.GetRetiredPagesPendingStatusFunc = func() (nvml.EnableState, nvml.Return) { return nvml.FEATURE_DISABLED, nvml.SUCCESS }
		}, before, signs{}, true},
		"answers that fail": {func(d *mock.Device) {
			d.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) { return 9, fail }
			d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 0, false, false, fail }
			d.GetRetiredPagesPendingStatusFunc = func() (nvml.EnableState, nvml.Return) { return nvml.FEATURE_DISABLED, fail }
			d.GetFieldValuesFunc = func([]nvml.FieldValue) nvml.Return { return fail }
		}, before, signs{uncorrected: 1, remapPending: true, remapFailed: true, retirePending: true, recovery: 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGPU("GPU-a")
			test.change(g.Device)
			r := record{signs: test.before, baseline: math.MaxUint64}
			if r.read(g); r.signs != test.want || (r.baseline < math.MaxUint64) != test.counted {
				t.Errorf("read %+v, baseline %d; want %+v, counted: %v", r.signs, r.baseline, test.want, test.counted)
			}
		})
	}
}

// What each answer of NVML is in the metrics, under the names and in the units of
// dcgm-exporter; what fails is not there.
func TestMeasureLoad(t *testing.T) {
	machine := newMachine("GPU-a")
	d := machine.gpus[0].Device
	code := nvml.SUCCESS
	d.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 51, code }
	d.GetPowerUsageFunc = func() (uint32, nvml.Return) { return 123_500, code }
	d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{Gpu: 97, Memory: 3}, code }
	d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) {
		return nvml.Memory{Total: 10 << 20, Used: 4 << 20, Free: 6 << 20}, code
	}
	want := "XID_ERRORS 31, GPU_TEMP 51, POWER_USAGE 123.5, GPU_UTIL 97, FB_USED 4, FB_FREE 6, FB_RESERVED 0"
	for range 2 {
		got := measureLoad(machine, machine.gpus[0], Device{UUID: "GPU-a", Index: 2}, &record{model: "model", last: 31})
		if got.UUID != "GPU-a" || got.Model != "model" || got.Index != 2 || values(got) != want {
			t.Errorf("with error %d: read %+v, want %s", code, got, want)
		}
		code, want = nvml.ERROR_UNKNOWN, "XID_ERRORS 31"
	}
}

func values(r Reading) string {
	var list []string
	for _, v := range r.Values {
		list = append(list, fmt.Sprint(v.Name, " ", v.Value))
	}
	return strings.Join(list, ", ")
}

// A device that comes later gets a place that no other has, and that no variable
// of the environment meant.
func TestWhatComesLaterGetsThePlaceAfterAllOthers(t *testing.T) {
	places := func(m *Monitor) (all []string) {
		for _, p := range m.places {
			all = append(all, p.UUID)
		}
		return all
	}
	m := newMonitor("-", "-")
	m.place([]Device{{UUID: "GPU-b", Index: 1}}, map[int]error{0: nvml.ERROR_GPU_IS_LOST})
	m.place([]Device{{UUID: "GPU-a", Index: 0}, {UUID: "GPU-b", Index: 1}}, nil)
	if got := places(m); !slices.Equal(got, []string{"GPU-a", "GPU-b"}) {
		t.Errorf("places %q, want the silent one taken by who has its index", got)
	}
	// A GPU is gone, and another one has its index.
	m.place([]Device{{UUID: "GPU-c", Index: 0}, {UUID: "GPU-b", Index: 1}}, nil)
	m.place([]Device{{UUID: "GPU-c", Index: 0}, {UUID: "GPU-d", Index: 1}}, map[int]error{1: nvml.ERROR_GPU_IS_LOST, 0: nvml.ERROR_UNKNOWN})
	if got := places(m); !slices.Equal(got, []string{"GPU-a", "GPU-b", "GPU-c", "GPU-d"}) {
		t.Errorf("places %q, want the new ones behind", got)
	}
	for i, p := range m.places {
		if p.Index != i {
			t.Errorf("%s has the index %d, want %d", p.UUID, p.Index, i)
		}
	}
	// A MIG device has the place of its GPU, wherever the GPU is now; also that
	// of the GPU itself before it was divided, and the first one's.
	m.place([]Device{{UUID: "MIG-c", Parent: "GPU-c", Index: 5}, {UUID: "MIG-a", Parent: "GPU-a", Index: 7}}, nil)
	for _, p := range m.places[4:] {
		if want := map[string]int{"MIG-c": 2, "MIG-a": 0}[p.UUID]; p.Index != want {
			t.Errorf("%s has the index %d, want %d", p.UUID, p.Index, want)
		}
	}
	// What did not change keeps its place.
	before := len(m.places)
	m.place([]Device{{UUID: "GPU-a", Index: 0}, {UUID: "MIG-c", Parent: "GPU-c", Index: 5}}, nil)
	if len(m.places) != before {
		t.Errorf("places %q, want no new one", places(m))
	}
}

// Only the first error of the configuration ends the runner.
func TestALaterErrorOfTheConfigurationChangesNothing(t *testing.T) {
	machine, m := newMachine("GPU-a"), newMonitor("-", "-")
	if err := m.lookAt(machine); err != nil {
		t.Fatal(err)
	}
	m.NVIDIA = new("GPU-b")
	if err := m.lookAt(machine); err != nil {
		t.Errorf("error %v, want none any more", err)
	}
	if got := m.Pool.healthy(); !slices.Equal(got, []string{"GPU-a"}) {
		t.Errorf("%v, want GPU-a as before", got)
	}
}

// What is wrong with NVML is in the pool, which tells whoever waits for it.
func TestAProblemIsToldOnce(t *testing.T) {
	p := NewPool(nil)
	for i, test := range []struct {
		problem string
		news    bool
	}{{"", false}, {"no driver", true}, {"no driver", false}, {"no permission", true}, {"", true}, {"", false}} {
		state := p.State()
		if news := p.SetDevices(nil, test.problem); news != test.news || (state.Err() != nil) != test.news || p.Problem() != test.problem {
			t.Errorf("step %d: news %v, state ended %v, problem %q; want %v and %q", i, news, state.Err() != nil, p.Problem(), test.news, test.problem)
		}
	}
}

// A task without GPUs has nothing to give back, and nobody need look.
func TestFreeingNothingIsNoChange(t *testing.T) {
	p := NewPool([]Device{{UUID: "GPU-a"}})
	state := p.State()
	p.Free(nil)
	if state.Err() != nil {
		t.Error("the state has ended")
	}
	if got := p.List()[0]; got.Health != api.Healthy || got.Task != "" {
		t.Errorf("listed %+v", got)
	}
}
