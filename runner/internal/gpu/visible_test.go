package gpu_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
)

const gib = 1 << 30

var machine = []gpu.Device{
	{GPU: api.GPU{UUID: "GPU-aaaa1111", Index: 0, Model: "small", MemoryBytes: 16 * gib}},
	{GPU: api.GPU{UUID: "GPU-aaaa2222", Index: 1, Model: "large", MemoryBytes: 80 * gib}},
	{GPU: api.GPU{UUID: "GPU-bbbb3333", Index: 2, Model: "small", MemoryBytes: 16 * gib}},
	{GPU: api.GPU{UUID: "GPU-cccc4444", Index: 3, Model: "small", MemoryBytes: 16 * gib}},
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
		{"void", unset, []int{0, 1, 2, 3}},
		{"", unset, []int{}},
		{"1,0", unset, []int{0, 1}},
		{"0,0,GPU-aaaa1111", unset, []int{0}},
		{"GPU-bbbb3333", unset, []int{2}},
		{"GPU-bbbb", unset, nil},
		{"4", unset, nil},
		{"-1", unset, nil},
		{"/var/run/nvidia-container-devices", unset, []int{0, 1, 2, 3}},
		{"/var/run/nvidia-container-devices", "2", []int{2}},
		{"nvidia.com/gpu=0,nvidia.com/gpu=GPU-x", unset, []int{0, 1, 2, 3}},
		{"runtime.nvidia.com/gpu=all", unset, []int{0, 1, 2, 3}},
		{"/dev/x,4", unset, nil},
		{"=0", unset, nil},
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
		{"3,1", "0", []int{1}},       // in NVML's order
		{"none", "0", []int{}},
		{"4,5,6,7", unset, []int{0, 1, 2, 3}}, // of the host, of which these are left
		{"1,2,3,4", unset, []int{0, 1, 2, 3}},
		{"0,5,6,7", unset, []int{0, 1, 2, 3}},
		{"4,5,6,0", unset, []int{0, 1, 2, 3}},
		{" 1 , 0", unset, []int{0, 1}},
		{"4,5,6", unset, nil},
		{"4,5,6,6", unset, nil},
		{"3,4,5,6,7", unset, nil},
		{"0,1,2,GPU-dddd", unset, nil},
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
		got := append([]int{}, indices(devices)...)
		if test.want != nil && !cmp.Equal(got, test.want) {
			t.Errorf("NVIDIA %q, CUDA %q: %v, want %v", test.nvidia, test.cuda, got, test.want)
		}
	}
}

// FuzzVisible: whatever the variables hold, a runner gets no GPU that is not
// there, none twice, and an error only from NVIDIA_VISIBLE_DEVICES.
func FuzzVisible(f *testing.F) {
	for _, list := range []string{"", "all", "none", "void", "0", "1,0", " 3 , 1 ", "4,5,6,7", "-1", "GPU-aaaa", "GPU-bbbb3333,0", "MIG-1",
		"/var/run/nvidia-container-devices", "nvidia.com/gpu=0", ",", "0,,1", "99999999999999999999", "\x00", "０"} {
		f.Add(list, "0,1")
		f.Add("all", list)
	}
	f.Fuzz(func(t *testing.T, nvidia, cuda string) {
		devices, err := gpu.Visible(machine, &nvidia, &cuda)
		if err != nil {
			if len(devices) > 0 || len(err.Error()) > 500 {
				t.Errorf("%v and %v", devices, err)
			}
			if _, err := gpu.Visible(machine, nil, &cuda); err != nil {
				t.Errorf("CUDA alone: %v", err)
			}
			return
		}
		seen := make(map[string]bool)
		for _, d := range devices {
			if seen[d.UUID] || !slices.ContainsFunc(machine, func(m gpu.Device) bool { return m.UUID == d.UUID }) {
				t.Errorf("%q, %q: %s is there twice, or not at all", nvidia, cuda, d.UUID)
			}
			seen[d.UUID] = true
		}
	})
}

// A GPU that does not answer has no UUID, but its place.
func TestVisibleWithASilentGPU(t *testing.T) {
	devices := slices.Clone(machine)
	devices[0] = gpu.Device{GPU: api.GPU{Index: 0}}
	devices[2] = gpu.Device{GPU: api.GPU{Index: 2}}
	for _, list := range []struct {
		entries      string
		nvidia, cuda []int // nil for an error, or none
	}{
		{"0", []int{0}, []int{0}},
		{"1", []int{1}, []int{1}},
		{"2,0,3", []int{0, 2, 3}, []int{2, 0, 3}},
		{"0,0", []int{0}, []int{0}}, // for now
		{"4", nil, nil},
		{"", nil, nil},
		{"0,,1", nil, []int{0}},
		{"GPU-aaaa1111,GPU-cccc4444", []int{0, 2, 3}, []int{0, 2, 3}}, // the first may be a silent one
		{"MIG-1,GPU-bbbb3333,GPU-cccc4444", []int{0, 2, 3}, []int{0, 2, 3}},
		{"GPU-aaaa,3", nil, []int{1, 3}}, // for all that is known
		{"4,5,6,7", []int{0, 1, 2, 3}, nil},
	} {
		got, err := gpu.Visible(devices, &list.entries, nil)
		if !cmp.Equal(indices(got), list.nvidia) || (err == nil) != (list.nvidia != nil || list.entries == "") {
			t.Errorf("NVIDIA %q: %v and %v, want %v", list.entries, indices(got), err, list.nvidia)
		}
		if got, _ := gpu.Visible(devices, nil, &list.entries); !cmp.Equal(indices(got), list.cuda) {
			t.Errorf("CUDA %q: %v, want %v", list.entries, indices(got), list.cuda)
		}
	}
}

func TestAnIndexThatDoesNotExistIsToldWithThoseThatDo(t *testing.T) {
	list := "0,7"
	_, err := gpu.Visible(machine, &list, nil)
	for _, says := range []string{`NVIDIA_VISIBLE_DEVICES names "7"`, "only GPU 0, 1, 2, 3;", "set it to void"} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want one with %q", err, says)
		}
	}
}

func indices(devices []gpu.Device) (indices []int) {
	for _, d := range devices {
		indices = append(indices, d.Index)
	}
	return indices
}

func TestVisibleMIGDevices(t *testing.T) {
	devices := []gpu.Device{
		{GPU: api.GPU{UUID: "GPU-0000", Index: 0}},
		{GPU: api.GPU{UUID: "MIG-1a", Parent: "GPU-1111", Index: 1}},
		{GPU: api.GPU{UUID: "MIG-1b", Parent: "GPU-1111", Index: 1}},
		{GPU: api.GPU{UUID: "GPU-3333", Index: 3}}, // GPU 2 is divided, and has no MIG device
	}
	for _, list := range []struct {
		entries      string
		nvidia, cuda []string
	}{
		{"MIG-1b", []string{"MIG-1b"}, []string{"MIG-1b"}},
		{"MIG-1b,GPU-0000", []string{"GPU-0000", "MIG-1b"}, []string{"MIG-1b", "GPU-0000"}},
		{"GPU-1111", []string{"MIG-1a", "MIG-1b"}, []string{"MIG-1a", "MIG-1b"}},
		{"GPU-1", nil, []string{"MIG-1a", "MIG-1b"}},
		{"1", []string{"MIG-1a", "MIG-1b"}, []string{"MIG-1a", "MIG-1b"}},
		{"2", nil, []string{"GPU-3333"}},
		{"3", []string{"GPU-3333"}, nil},
		{"MIG-1", nil, nil},
		{"MIG-1a,MIG-1a", []string{"MIG-1a"}, nil},
	} {
		if got, _ := gpu.Visible(devices, &list.entries, nil); !cmp.Equal(uuids(got), list.nvidia) {
			t.Errorf("NVIDIA %q: %v, want %v", list.entries, uuids(got), list.nvidia)
		}
		if got, _ := gpu.Visible(devices, nil, &list.entries); !cmp.Equal(uuids(got), list.cuda) {
			t.Errorf("CUDA %q: %v, want %v", list.entries, uuids(got), list.cuda)
		}
	}
}

func uuids(devices []gpu.Device) (uuids []string) {
	for _, d := range devices {
		uuids = append(uuids, d.UUID)
	}
	return uuids
}
