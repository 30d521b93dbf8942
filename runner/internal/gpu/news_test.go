package gpu_test

import (
	"cmp"
	"testing"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
)

// A machine whose devices stay as they are is no news, and one that is exchanged
// is, with what is now known of it.
func TestNewsOfDevices(t *testing.T) {
	one, two := gpu.Device{GPU: api.GPU{UUID: "GPU-1"}}, gpu.Device{GPU: api.GPU{UUID: "GPU-2"}}
	large := gpu.Device{GPU: api.GPU{UUID: "GPU-1", MemoryBytes: 80 << 30}}
	p := gpu.NewPool([]gpu.Device{one})
	state := p.State()
	p.SetDevices([]gpu.Device{one}, "")
	if state.Err() != nil {
		t.Error("the same device is news")
	}
	p.SetDevices([]gpu.Device{large}, "")
	if _, ok := p.Reserve("a", api.Resources{GPUs: 1, GPUMemory: 80 << 30}, nil); !ok {
		t.Error("not reserved, though it has the memory")
	}
	p.SetDevices([]gpu.Device{large, two}, "")
	state = p.State()
	if p.SetDevices([]gpu.Device{{GPU: api.GPU{UUID: "GPU-3"}}, large}, ""); state.Err() == nil {
		t.Error("another device is no news")
	}
}

// What is wrong with NVML is in the pool, which tells whoever waits for it.
func TestAProblemIsToldOnce(t *testing.T) {
	p := gpu.NewPool(nil)
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
	p := gpu.NewPool([]gpu.Device{{GPU: api.GPU{UUID: "GPU-a"}}})
	state := p.State()
	p.Free(nil)
	if state.Err() != nil {
		t.Error("the state has ended")
	}
	if got := p.List()[0]; got.Health != api.Healthy || got.Task != "" {
		t.Errorf("listed %+v", got)
	}
}

// setHealth says how a GPU is, with its MIG devices.
func setHealth(p *gpu.Pool, uuid string, is api.Health, reason string) {
	var devices []gpu.Device
	for _, g := range p.List() {
		d := gpu.Device{GPU: g}
		if cmp.Or(d.Parent, d.UUID) == uuid {
			d.Health, d.HealthReason = is, reason
		}
		devices = append(devices, d)
	}
	p.SetDevices(devices, "")
}
