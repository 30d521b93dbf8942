package gpu

import (
	"errors"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
)

// What the driver reserves is not used by anybody, where the driver can say so.
func TestReservedMemoryIsNotUsed(t *testing.T) {
	for _, test := range []struct {
		name    string
		missing error // of the function that tells it
		code    nvml.Return
		want    Reading
	}{
		{"today's driver", nil, nvml.SUCCESS, Reading{MemoryUsed: 1, MemoryFree: 6, MemoryReserved: 3}},
		{"not of this GPU", nil, nvml.ERROR_NOT_SUPPORTED, Reading{MemoryUsed: 4, MemoryFree: 6}},
		{"before R510", errors.New("missing"), nvml.SUCCESS, Reading{MemoryUsed: 4, MemoryFree: 6}},
		{"lost", nil, nvml.ERROR_GPU_IS_LOST, Reading{}},
	} {
		g := newGPU("GPU-1")
		device := g.Device
		device.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) {
			if test.code == nvml.ERROR_GPU_IS_LOST {
				return nvml.Memory{}, test.code
			}
			return nvml.Memory{Total: 10, Used: 4, Free: 6}, nvml.SUCCESS
		}
		device.GetMemoryInfo_v2Func = func() (nvml.Memory_v2, nvml.Return) {
			if test.missing != nil {
				t.Errorf("%s: it was called", test.name)
			}
			return nvml.Memory_v2{Total: 10, Used: 1, Free: 6, Reserved: 3}, test.code
		}
		lib := &mock.Interface{ExtensionsFunc: func() nvml.ExtendedInterface {
			return &mock.ExtendedInterface{LookupSymbolFunc: func(string) error { return test.missing }}
		}}
		got := measureLoad(lib, g, Device{UUID: "GPU-1"}, &record{})
		if got.MemoryUsed != test.want.MemoryUsed || got.MemoryFree != test.want.MemoryFree || got.MemoryReserved != test.want.MemoryReserved {
			t.Errorf("%s: used %d, free %d, reserved %d, want %+v", test.name, got.MemoryUsed, got.MemoryFree, got.MemoryReserved, test.want)
		}
	}
}
