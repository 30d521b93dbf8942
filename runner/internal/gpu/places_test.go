package gpu

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/studioml/studio-go-runner/runner/api"
)

func TestASilentGPUKeepsItsPlace(t *testing.T) {
	for _, test := range []struct {
		nvidia, cuda string
		silent       []int    // at the first look
		first        []string // what there is then
		later        []string // and when all have answered
	}{
		{"-", "0", []int{0}, nil, []string{"GPU-a"}},
		{"-", "1", []int{0}, []string{"GPU-b"}, []string{"GPU-b"}},
		{"0", "-", []int{0}, nil, []string{"GPU-a"}},
		{"0,2", "1", []int{0}, []string{"GPU-c"}, []string{"GPU-c"}},
		{"0,2", "0", []int{0}, nil, []string{"GPU-a"}},
		{"GPU-a,GPU-b", "-", []int{0}, []string{"GPU-b"}, []string{"GPU-a", "GPU-b"}},
		{"-", "GPU-a,GPU-b", []int{0}, []string{"GPU-b"}, []string{"GPU-a", "GPU-b"}},
		{"-", "GPU-b", []int{0, 2}, []string{"GPU-b"}, []string{"GPU-b"}},
		{"-", "0,1,2", []int{0, 1, 2}, nil, []string{"GPU-a", "GPU-b", "GPU-c"}},
		{"-", "-", []int{0, 1, 2}, nil, []string{"GPU-a", "GPU-b", "GPU-c"}},
		{"all", "2", []int{0, 1, 2}, nil, []string{"GPU-c"}},
		{"GPU-nowhere,GPU-b", "-", []int{0}, []string{"GPU-b"}, []string{"GPU-b"}}, // too late for an error
	} {
		name := fmt.Sprintf("NVIDIA %s, CUDA %s, silent %v", test.nvidia, test.cuda, test.silent)
		t.Run(name, func(t *testing.T) {
			machine := newMachine("GPU-a", "GPU-b", "GPU-c")
			m := newMonitor(test.nvidia, test.cuda)
			for _, i := range test.silent {
				machine.gpus[i].code = nvml.ERROR_GPU_IS_LOST
			}
			want := test.first
			for range 2 {
				if err := m.lookAt(machine); err != nil {
					t.Fatal(err)
				}
				problem := m.Pool.Problem()
				if got := m.Pool.healthy(); !slices.Equal(got, want) {
					t.Errorf("%v, want %v", got, want)
				}
				if unlike := !slices.Equal(test.first, test.later); unlike && (problem == "") != slices.Equal(want, test.later) {
					t.Errorf("problem %q with %v", problem, want)
				}
				for _, g := range machine.gpus {
					g.code = nvml.SUCCESS
				}
				want = test.later
			}
		})
	}
}

func TestAProblemSaysWhichGPUIsSilent(t *testing.T) {
	machine := newMachine("GPU-a", "GPU-b")
	machine.gpus[1].code = nvml.ERROR_GPU_IS_LOST
	m := newMonitor("-", "-")
	if err := m.lookAt(machine); err != nil || m.Pool.Problem() != "GPU 1 has not answered yet: "+nvml.ERROR_GPU_IS_LOST.Error() {
		t.Errorf("problem %q, error %v", m.Pool.Problem(), err)
	}
}

// A GPU that this process has no permission for is another's; CUDA does not
// count it.
func TestAForbiddenGPUHasNoPlace(t *testing.T) {
	machine := newMachine("GPU-a", "GPU-b")
	machine.gpus[0].code = nvml.ERROR_NO_PERMISSION
	m := newMonitor("-", "0")
	if err := m.lookAt(machine); err != nil || m.Pool.Problem() != "" {
		t.Errorf("problem %q, error %v", m.Pool.Problem(), err)
	}
	if got := m.Pool.healthy(); !slices.Equal(got, []string{"GPU-b"}) {
		t.Errorf("%v, want GPU-b", got)
	}
}

func TestVisibleIsAboutTheMachineOfTheStart(t *testing.T) {
	for _, test := range []struct {
		cuda          string
		added, onceGo []string // with one more GPU, and when GPU-a is gone then
	}{
		{"-", []string{"GPU-a", "GPU-b", "GPU-c"}, []string{"GPU-b", "GPU-c"}},
		{"0,1", []string{"GPU-a", "GPU-b"}, []string{"GPU-b"}},
		{"1", []string{"GPU-b"}, []string{"GPU-b"}},
	} {
		machine, m := newMachine("GPU-a", "GPU-b"), newMonitor("-", test.cuda)
		look := func(want []string) {
			t.Helper()
			if err := m.lookAt(machine); err != nil {
				t.Fatal(err)
			}
			if got := m.Pool.healthy(); !slices.Equal(got, want) {
				t.Errorf("CUDA %q: %v, want %v", test.cuda, got, want)
			}
		}
		look(slices.DeleteFunc(slices.Clone(test.added), func(uuid string) bool { return uuid == "GPU-c" }))
		machine.gpus = append(machine.gpus, newGPU("GPU-c"))
		look(test.added)
		machine.gpus = machine.gpus[1:]
		look(test.onceGo)
		machine.gpus = append(machine.gpus, newGPU("GPU-a"))
		look(test.added)
	}
}

func TestAnImpossibleVariableEndsTheRunnerAtTheStart(t *testing.T) {
	var wrong *visibleError
	if err := newMonitor("7,8", "-").lookAt(newMachine("GPU-a")); !errors.As(err, &wrong) {
		t.Errorf("error %v, want one of the configuration", err)
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
	m.place([]Device{{GPU: api.GPU{UUID: "GPU-b", Index: 1}}}, map[int]error{0: nvml.ERROR_GPU_IS_LOST})
	m.place([]Device{{GPU: api.GPU{UUID: "GPU-a", Index: 0}}, {GPU: api.GPU{UUID: "GPU-b", Index: 1}}}, nil)
	if got := places(m); !slices.Equal(got, []string{"GPU-a", "GPU-b"}) {
		t.Errorf("places %q, want the silent one taken by who has its index", got)
	}
	// A GPU is gone, and another one has its index.
	m.place([]Device{{GPU: api.GPU{UUID: "GPU-c", Index: 0}}, {GPU: api.GPU{UUID: "GPU-b", Index: 1}}}, nil)
	m.place([]Device{{GPU: api.GPU{UUID: "GPU-c", Index: 0}}, {GPU: api.GPU{UUID: "GPU-d", Index: 1}}},
		map[int]error{1: nvml.ERROR_GPU_IS_LOST, 0: nvml.ERROR_UNKNOWN})
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
	m.place([]Device{
		{GPU: api.GPU{UUID: "MIG-c", Parent: "GPU-c", Index: 5}}, {GPU: api.GPU{UUID: "MIG-a", Parent: "GPU-a", Index: 7}},
	}, nil)
	for _, p := range m.places[4:] {
		if want := map[string]int{"MIG-c": 2, "MIG-a": 0}[p.UUID]; p.Index != want {
			t.Errorf("%s has the index %d, want %d", p.UUID, p.Index, want)
		}
	}
	// What did not change keeps its place.
	before := len(m.places)
	m.place([]Device{
		{GPU: api.GPU{UUID: "GPU-a", Index: 0}}, {GPU: api.GPU{UUID: "MIG-c", Parent: "GPU-c", Index: 5}},
	}, nil)
	if len(m.places) != before {
		t.Errorf("places %q, want no new one", places(m))
	}
}
