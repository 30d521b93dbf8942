package gpu_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
)

func TestFits(t *testing.T) {
	pool := gpu.NewPool(machine)
	for _, test := range []struct {
		gpus   int
		memory api.Bytes
		want   bool
	}{
		{0, 0, true}, {4, 0, true}, {5, 0, false}, {1, 80 * gib, true}, {2, 80 * gib, false}, {1, 81 * gib, false},
	} {
		if got := pool.Fits(api.Resources{GPUs: test.gpus, GPUMemory: test.memory}); got != test.want {
			t.Errorf("%d GPUs of %d bytes: fits %v, want %v", test.gpus, test.memory, got, test.want)
		}
	}
}

// reserve takes devices that must be there.
func reserve(t *testing.T, pool *gpu.Pool, task string, r api.Resources) []string {
	t.Helper()
	uuids, ok := pool.Reserve(task, r, nil)
	if !ok {
		t.Fatalf("%s did not get %+v", task, r)
	}
	return uuids
}

func TestSmallTasksLeaveTheLargeGPUFree(t *testing.T) {
	pool := gpu.NewPool(machine)
	uuids := reserve(t, pool, "a", api.Resources{GPUs: 3})
	if want := []string{"GPU-aaaa1111", "GPU-bbbb3333", "GPU-cccc4444"}; !cmp.Equal(uuids, want) {
		t.Errorf("reserved %v, want %v", uuids, want)
	}
}

func TestReserveGivesAllOrNothing(t *testing.T) {
	pool := gpu.NewPool(machine)
	first := reserve(t, pool, "first", api.Resources{GPUs: 3})
	state := pool.State()
	if uuids, ok := pool.Reserve("second", api.Resources{GPUs: 2}, nil); ok || uuids != nil || pool.Available(api.Resources{GPUs: 2}, nil) {
		t.Errorf("second reserved %v with one free", uuids)
	}
	reserve(t, pool, "third", api.Resources{GPUs: 1})
	if state.Err() != nil {
		t.Error("the state ended when devices were taken")
	}
	pool.Free(first[:2])
	if state.Err() == nil {
		t.Error("the state lives on after devices came back")
	}
	reserve(t, pool, "second", api.Resources{GPUs: 2})
}

func TestWhatIsSparedIsLeftAlone(t *testing.T) {
	pool := gpu.NewPool(machine)
	large := &api.Resources{GPUs: 1, GPUMemory: 80 * gib}
	if pool.Available(api.Resources{GPUs: 4}, large) || !pool.Available(api.Resources{GPUs: 3}, large) || !pool.Available(api.Resources{}, large) {
		t.Error("the large GPU is not spared")
	}
	if uuids, ok := pool.Reserve("a", api.Resources{GPUs: 4}, large); ok {
		t.Errorf("reserved %v", uuids)
	}
	if uuids, _ := pool.Reserve("b", api.Resources{GPUs: 3}, large); len(uuids) != 3 {
		t.Errorf("reserved %v", uuids)
	}
}

func TestFreeingTwicePanics(t *testing.T) {
	pool := gpu.NewPool(machine)
	uuids := reserve(t, pool, "a", api.Resources{GPUs: 1})
	pool.Free(uuids)
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	pool.Free(uuids)
}

func TestOnlyHealthyDevicesAreGiven(t *testing.T) {
	pool := gpu.NewPool(machine)
	held := reserve(t, pool, "a", api.Resources{GPUs: 1})
	for _, is := range []api.Health{api.Sick, api.Retiring, api.Sick} {
		state := pool.State()
		setHealth(pool, held[0], is, "Xid 79")
		if state.Err() == nil {
			t.Errorf("%s: the state lives on", is)
		}
		state = pool.State()
		setHealth(pool, held[0], is, "Xid 79")
		if state.Err() != nil {
			t.Errorf("%s: the state ended with nothing new", is)
		}
		want := ""
		if is == api.Sick {
			want = "GPU GPU-aaaa1111 is sick: Xid 79"
		}
		if got := pool.Sick(held); got != want {
			t.Errorf("%s: Sick is %q, want %q", is, got, want)
		}
		if g := pool.List()[0]; g.Health != is || g.HealthReason != "Xid 79" || g.Task != "a" {
			t.Errorf("%s: listed as %+v", is, g)
		}
		if pool.Fits(api.Resources{GPUs: 4}) || !pool.Fits(api.Resources{GPUs: 3}) {
			t.Errorf("%s: counted in Fits", is)
		}
	}
	pool.Free(held)
	others := reserve(t, pool, "b", api.Resources{GPUs: 3})
	if pool.Available(api.Resources{GPUs: 1}, nil) {
		t.Error("a sick device is available")
	}
	if got := pool.Sick(others); got != "" {
		t.Errorf("Sick of healthy devices is %q", got)
	}
	setHealth(pool, held[0], api.Healthy, "")
	if got := reserve(t, pool, "c", api.Resources{GPUs: 1}); !cmp.Equal(got, held) {
		t.Errorf("reserved %v, want the healed %v", got, held)
	}
	if g := pool.List()[0]; g.Health != api.Healthy || g.HealthReason != "" {
		t.Errorf("healed and listed as %+v", g)
	}
}

func TestRetireLeavesTheSickAsTheyAre(t *testing.T) {
	pool := gpu.NewPool(append(slices.Clone(machine[:2]), gpu.Device{GPU: api.GPU{UUID: "MIG-1", Parent: "GPU-1"}}))
	held := reserve(t, pool, "a", api.Resources{GPUs: 1})
	setHealth(pool, "GPU-1", api.Sick, "Xid 79")
	for i := range 2 {
		state := pool.State()
		pool.Retire("NVML does not answer")
		if (state.Err() != nil) != (i == 0) {
			t.Errorf("time %d: the state ended: %v", i, state.Err() != nil)
		}
		for _, g := range pool.List() {
			is, why := api.Retiring, "NVML does not answer"
			if g.UUID == held[0] {
				is, why = api.Sick, "Xid 79"
			}
			if g.Health != is || g.HealthReason != why {
				t.Errorf("%s is %s for %q, want %s for %q", g.UUID, g.Health, g.HealthReason, is, why)
			}
		}
	}
	if pool.Sick(held) == "" {
		t.Error("the task's GPU is not sick any more")
	}
}

func TestDevicesComeAndGo(t *testing.T) {
	pool := gpu.NewPool(machine[:2])
	held := reserve(t, pool, "a", api.Resources{GPUs: 2})
	state := pool.State()
	pool.SetDevices(machine[:2], "")
	if state.Err() != nil {
		t.Error("the state ended with nothing new")
	}
	pool.SetDevices(machine[1:3], "")
	if state.Err() == nil {
		t.Error("the state lives on")
	}
	if got, want := pool.Sick(held), "GPU GPU-aaaa1111 is sick: removed"; got != want {
		t.Errorf("Sick is %q, want %q", got, want)
	}
	if got := pool.Size(); got != 2 {
		t.Errorf("size %d, want 2", got)
	}
	if got := reserve(t, pool, "b", api.Resources{GPUs: 1}); got[0] != "GPU-bbbb3333" {
		t.Errorf("reserved %v, want the new one", got)
	}
	pool.Free(held)
	pool.SetDevices(machine, "")
	if !pool.Fits(api.Resources{GPUs: 4}) || !pool.Available(api.Resources{GPUs: 3}, nil) {
		t.Error("the device is back and cannot be used")
	}
	var order []int
	for _, g := range pool.List() {
		order = append(order, g.Index)
	}
	if want := []int{0, 1, 2, 3}; !cmp.Equal(order, want) {
		t.Errorf("listed %v, want %v", order, want)
	}
}

// CUDA uses one MIG device and nothing beside it.
func TestMIGDevicesAreForTasksOfOneGPU(t *testing.T) {
	pool := gpu.NewPool([]gpu.Device{
		{GPU: api.GPU{UUID: "GPU-0", MemoryBytes: 40 * gib}},
		{GPU: api.GPU{UUID: "MIG-1", Parent: "GPU-1", MemoryBytes: 5 * gib}},
		{GPU: api.GPU{UUID: "MIG-2", Parent: "GPU-1", MemoryBytes: 5 * gib}},
		{GPU: api.GPU{UUID: "GPU-2", MemoryBytes: 40 * gib}},
	})
	if pool.Fits(api.Resources{GPUs: 3}) {
		t.Error("three GPUs fit")
	}
	if got := reserve(t, pool, "one", api.Resources{GPUs: 1}); got[0] != "MIG-1" {
		t.Errorf("a small task got %v", got)
	}
	if got, want := reserve(t, pool, "two", api.Resources{GPUs: 2}), []string{"GPU-0", "GPU-2"}; !cmp.Equal(got, want) {
		t.Errorf("two GPUs are %v, want %v", got, want)
	}
	setHealth(pool, "GPU-1", api.Sick, "Xid 79")
	if pool.Available(api.Resources{GPUs: 1}, nil) || pool.Sick([]string{"MIG-1"}) == "" {
		t.Error("a sick GPU has healthy MIG devices")
	}
}

func TestAGPUThatIsDividedUnderATaskIsNotGivenAgain(t *testing.T) {
	whole := []gpu.Device{{GPU: api.GPU{UUID: "GPU-1"}}, {GPU: api.GPU{UUID: "GPU-2"}}}
	parts := []gpu.Device{
		{GPU: api.GPU{UUID: "MIG-1", Parent: "GPU-1"}}, {GPU: api.GPU{UUID: "MIG-2", Parent: "GPU-1"}}, whole[1],
	}
	one := api.Resources{GPUs: 1}
	for _, test := range []struct{ before, after []gpu.Device }{{whole, parts}, {parts, whole}} {
		pool := gpu.NewPool(test.before)
		first := reserve(t, pool, "first", one)
		pool.SetDevices(test.after, "")
		if got := reserve(t, pool, "second", one); got[0] != "GPU-2" {
			t.Errorf("with %v held, the next task got %v", first, got)
		}
		if pool.Available(one, nil) {
			t.Errorf("with %v held, there is one more", first)
		}
		pool.Free(first)
		if !pool.Available(one, nil) {
			t.Errorf("with %v given back, there is none", first)
		}
	}
}
