package gpu

import (
	"errors"
	"strings"
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
		got := measureLoad(lib, g, Device{UUID: "GPU-1"}, &record{})
		if _, memory, _ := strings.Cut(values(got), "XID_ERRORS 0"); strings.TrimPrefix(memory, ", ") != test.want {
			t.Errorf("%s: %s, want %s", test.name, memory, test.want)
		}
	}
}
