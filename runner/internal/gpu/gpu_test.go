package gpu_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
)

const gib = 1 << 30

var machine = []gpu.Device{
	{UUID: "GPU-aaaa1111", Index: 0, Model: "small", MemoryBytes: 16 * gib},
	{UUID: "GPU-aaaa2222", Index: 1, Model: "large", MemoryBytes: 80 * gib},
	{UUID: "GPU-bbbb3333", Index: 2, Model: "small", MemoryBytes: 16 * gib},
	{UUID: "GPU-cccc4444", Index: 3, Model: "small", MemoryBytes: 16 * gib},
}

func TestVisible(t *testing.T) {
	const unset = "(unset)"
	for _, test := range []struct {
		nvidia, cuda string
		want         []int // nil for an error
	}{
		{unset, unset, []int{0, 1, 2, 3}},
		{"all", unset, []int{0, 1, 2, 3}},
		{"none", unset, []int{}},
		{"void", unset, []int{}},
		{"", unset, []int{}},
		{"1,0", unset, []int{1, 0}},
		{"GPU-bbbb3333", unset, []int{2}},
		{"GPU-bbbb", unset, nil},
		{"4", unset, nil},
		{"-1", unset, nil},
		{"/dev/x", unset, nil},
		{unset, "", []int{}},
		{unset, "3,1", []int{3, 1}},
		{unset, " 3 , 1 ", []int{3, 1}},
		{unset, "0,9,1", []int{0}},
		{unset, "-1,0", []int{}},
		{unset, "0,nonsense,1", []int{0}},
		{unset, "1,1", []int{}},
		{unset, "0,GPU-aaaa1111", []int{}},
		{unset, "GPU-b,GPU-aaaa2", []int{2, 1}},
		{unset, "GPU-aaaa", []int{}}, // not unique
		{"1,2", "0", []int{1}},       // the toolkit hides first, CUDA counts what is left
		{"none", "0", []int{}},
	} {
		pointer := func(s string) *string {
			if s == unset {
				return nil
			}
			return &s
		}
		devices, err := gpu.Visible(machine, pointer(test.nvidia), pointer(test.cuda))
		if (err != nil) != (test.want == nil) {
			t.Errorf("NVIDIA %q, CUDA %q: error %v, want one: %v", test.nvidia, test.cuda, err, test.want == nil)
			continue
		}
		got := []int{}
		for _, d := range devices {
			got = append(got, d.Index)
		}
		if test.want != nil && !cmp.Equal(got, test.want) {
			t.Errorf("NVIDIA %q, CUDA %q: %v, want %v", test.nvidia, test.cuda, got, test.want)
		}
	}
}

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

func TestSmallTasksLeaveTheLargeGPUFree(t *testing.T) {
	pool := gpu.NewPool(machine)
	uuids, err := pool.Reserve(t.Context(), "a", api.Resources{GPUs: 3})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"GPU-aaaa1111", "GPU-bbbb3333", "GPU-cccc4444"}; !cmp.Equal(uuids, want) {
		t.Errorf("reserved %v, want %v", uuids, want)
	}
}

func TestReserveWaitsForEnoughGPUs(t *testing.T) {
	pool := gpu.NewPool(machine)
	first, err := pool.Reserve(t.Context(), "first", api.Resources{GPUs: 3})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan []string)
	go func() {
		second, _ := pool.Reserve(t.Context(), "second", api.Resources{GPUs: 2})
		got <- second
	}()
	pool.Free(first[:1])
	if second := <-got; len(second) != 2 {
		t.Errorf("reserved %v, want two", second)
	}
}

func TestNothingIsReservedOnceTheContextHasEnded(t *testing.T) {
	pool := gpu.NewPool(machine)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if uuids, err := pool.Reserve(ctx, "a", api.Resources{GPUs: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("Reserve = %v, %v", uuids, err)
	}
	for _, g := range pool.List() {
		if g.Task != "" {
			t.Errorf("%s is held by %q", g.UUID, g.Task)
		}
	}
}

func TestFreeingTwicePanics(t *testing.T) {
	pool := gpu.NewPool(machine)
	uuids, _ := pool.Reserve(t.Context(), "a", api.Resources{GPUs: 1})
	pool.Free(uuids)
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	pool.Free(uuids)
}

// Whatever tasks come and go, no GPU is held twice and none gets lost.
func TestRandomTasksNeverShareAGPU(t *testing.T) {
	pool := gpu.NewPool(machine)
	var mu sync.Mutex
	holders := make(map[string]int)
	var wg sync.WaitGroup
	for worker := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, worker))
			for range 200 {
				uuids, err := pool.Reserve(t.Context(), "x", api.Resources{GPUs: r.IntN(5)})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, u := range uuids {
					if holders[u]++; holders[u] > 1 {
						t.Errorf("%s is held twice", u)
					}
				}
				mu.Unlock()
				mu.Lock()
				for _, u := range uuids {
					holders[u]--
				}
				mu.Unlock()
				pool.Free(uuids)
			}
		})
	}
	wg.Wait()
	if uuids, err := pool.Reserve(t.Context(), "all", api.Resources{GPUs: len(machine)}); err != nil || len(uuids) != len(machine) {
		t.Errorf("after all: %v, %v", uuids, err)
	}
}
