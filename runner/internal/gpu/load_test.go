package gpu

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"

	"github.com/studioml/studio-go-runner/runner/api"
)

// What the driver reserves is not used by anybody, where the driver can say so.
func TestReservedMemoryIsNotUsed(t *testing.T) {
	for _, test := range []struct {
		name    string
		missing error // of the function that tells it
		code    nvml.Return
		want    string
	}{
		{"today's driver", nil, nvml.SUCCESS, "FB_USED 1, FB_FREE 6, FB_RESERVED 3"},
		{"not of this GPU", nil, nvml.ERROR_NOT_SUPPORTED, "FB_USED 4, FB_FREE 6, FB_RESERVED 0"},
		{"before R510", errors.New("missing"), nvml.SUCCESS, "FB_USED 4, FB_FREE 6, FB_RESERVED 0"},
		{"lost", nil, nvml.ERROR_GPU_IS_LOST, ""},
	} {
		g := newGPU("GPU-1")
		device := g.Device
		device.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) {
			if test.code == nvml.ERROR_GPU_IS_LOST {
				return nvml.Memory{}, test.code
			}
			return nvml.Memory{Total: 10 << 20, Used: 4 << 20, Free: 6 << 20}, nvml.SUCCESS
		}
		device.GetMemoryInfo_v2Func = func() (nvml.Memory_v2, nvml.Return) {
			if test.missing != nil {
				t.Errorf("%s: it was called", test.name)
			}
			return nvml.Memory_v2{Total: 10 << 20, Used: 1 << 20, Free: 6 << 20, Reserved: 3 << 20}, test.code
		}
		lib := &mock.Interface{ExtensionsFunc: func() nvml.ExtendedInterface {
			return &mock.ExtendedInterface{LookupSymbolFunc: func(string) error { return test.missing }}
		}}
		got := measureLoad(lib, g, Device{GPU: api.GPU{UUID: "GPU-1"}}, &record{})
		if _, memory, _ := strings.Cut(values(got), "XID_ERRORS 0"); strings.TrimPrefix(memory, ", ") != test.want {
			t.Errorf("%s: %s, want %s", test.name, memory, test.want)
		}
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
		d := Device{GPU: api.GPU{UUID: "GPU-a", Index: 2}}
		got := measureLoad(machine, machine.gpus[0], d, &record{model: "model", last: 31})
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

func TestTheXidOfALostGPUCanStillBeRead(t *testing.T) {
	machine, m := newMachine("GPU-a"), newMonitor("-", "-")
	for _, code := range []nvml.Return{nvml.SUCCESS, nvml.ERROR_GPU_IS_LOST} {
		machine.gpus[0].code = code
		if err := m.lookAt(machine); err != nil {
			t.Fatal(err)
		}
		m.record("GPU-a").raise(79, nil)
	}
	if got := m.Readings(); len(got) != 1 || got[0].UUID != "GPU-a" || got[0].Model != "model" || values(got[0]) != "XID_ERRORS 79" {
		t.Errorf("read %+v", got)
	}
}
