package gpu

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// A GPU that answers under another index is not listed twice, one that does not
// keeps its index, and one that is lost meanwhile says why.
func TestALookAtAMachineInDisorder(t *testing.T) {
	machine, m := newMachine("GPU-a", "GPU-b"), newMonitor("-", "-")
	look := func(want ...string) map[nvml.Device]string {
		t.Helper()
		if err := m.lookAt(machine); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range m.known {
			got = append(got, fmt.Sprint(d.UUID, "@", d.Index))
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("known %q, want %q", got, want)
		}
		return m.events.gpus
	}
	if got := look("GPU-a@0", "GPU-b@1"); len(got) != 2 || got[machine.gpus[0]] != "GPU-a" {
		t.Errorf("answering %v, want both", got)
	}
	a, b := machine.gpus[0], machine.gpus[1]
	b.code = nvml.ERROR_GPU_IS_LOST
	if got := look("GPU-a@0", "GPU-b@1"); len(got) != 1 || got[machine.gpus[0]] != "GPU-a" {
		t.Errorf("answering %v, want one", got)
	}
	b.code, a.code = nvml.SUCCESS, nvml.ERROR_GPU_IS_LOST
	machine.gpus[0], machine.gpus[1] = b, a
	look("GPU-b@0")
	a.code = nvml.SUCCESS
	look("GPU-b@0", "GPU-a@1")

	named := a.GetNameFunc
	asked := 0
	a.GetNameFunc = func() (string, nvml.Return) {
		if asked++; asked == 1 {
			return named()
		}
		return "", nvml.ERROR_GPU_IS_LOST // between two questions
	}
	if got := look("GPU-b@0", "GPU-a@1"); len(got) != 1 || got[b] != "GPU-b" {
		t.Errorf("answering %v, want one", got)
	}
	if got := m.Pool.Sick([]string{"GPU-a"}); got != "GPU GPU-a is sick: "+nvml.ERROR_GPU_IS_LOST.Error() {
		t.Errorf("Sick is %q, want NVML's reason", got)
	}
}

// Two MIG devices of one GPU are one load and one look at its health.
func TestAGPUIsReadOnceForAllItsParts(t *testing.T) {
	machine, m := newMachine("GPU-a"), newMonitor("-", "-")
	divide(machine, "MIG-1", "MIG-2")
	if err := m.lookAt(machine); err != nil {
		t.Fatal(err)
	}
	if got := m.Readings(); len(got) != 1 {
		t.Errorf("readings %+v, want one", got)
	}
	g := machine.gpus[0]
	g.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 0, nvml.ERROR_UNKNOWN }
	found, err := takeInventory(machine, m.known)
	if want := "the number of MIG devices: " + nvml.ERROR_UNKNOWN.Error(); err != nil || found.failures[0].Error() != want {
		t.Errorf("failure %v, error %v, want %q", found.failures[0], err, want)
	}
}

// divide puts a machine's first GPU into MIG mode.
func divide(machine *fakeMachine, parts ...string) {
	g := machine.gpus[0]
	g.GetMigModeFunc = func() (int, int, nvml.Return) { return nvml.DEVICE_MIG_ENABLE, 0, nvml.SUCCESS }
	g.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return len(parts), nvml.SUCCESS }
	g.GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) { return newGPU(parts[i]), nvml.SUCCESS }
}

// How close GPUs are takes a question for each pair, so it is asked once, and
// again when the GPUs are others.
func TestTheTopologyIsAskedForOnce(t *testing.T) {
	machine, m := newMachine("GPU-a", "GPU-b"), newMonitor("-", "-")
	asked := 0
	link := func(nvml.Device, nvml.GpuP2PCapsIndex) (nvml.GpuP2PStatus, nvml.Return) {
		asked++
		return nvml.P2P_STATUS_OK, nvml.SUCCESS
	}
	for _, g := range machine.gpus {
		g.GetP2PStatusFunc = link
	}
	for i, want := range []bool{true, false, false, true, false} {
		if i == 3 {
			machine.gpus[1] = newGPU("GPU-c")
			machine.gpus[1].GetP2PStatusFunc = link
		}
		asked = 0
		if err := m.lookAt(machine); err != nil {
			t.Fatal(err)
		}
		if (asked > 0) != want {
			t.Errorf("look %d: asked %d times, want a question: %v", i, asked, want)
		}
		if near := m.known[0].Near[m.known[1].UUID]; near != Linked {
			t.Errorf("look %d: the GPUs are %d close, want %d", i, near, Linked)
		}
	}
}

// The whole GPU would be given away beside its MIG devices.
func TestADividedGPUStaysSoWhileNVMLDoesNotTell(t *testing.T) {
	machine, m := newMachine("GPU-a"), newMonitor("-", "-")
	g, code := machine.gpus[0], nvml.SUCCESS
	g.GetMigModeFunc = func() (int, int, nvml.Return) { return nvml.DEVICE_MIG_ENABLE, 0, code }
	g.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 1, nvml.SUCCESS }
	g.GetMigDeviceHandleByIndexFunc = func(int) (nvml.Device, nvml.Return) {
		part := newGPU("MIG-a")
		part.GetNameFunc = func() (string, nvml.Return) { return "part of a model", nvml.SUCCESS }
		return part, nvml.SUCCESS
	}
	for _, code = range []nvml.Return{nvml.SUCCESS, nvml.ERROR_UNKNOWN, nvml.SUCCESS} {
		if err := m.lookAt(machine); err != nil {
			t.Fatal(err)
		}
		want := []string{"MIG-a"}
		if code != nvml.SUCCESS {
			want = nil
		}
		if got := m.Pool.healthy(); !slices.Equal(got, want) {
			t.Errorf("with error %d: %v, want %v", code, got, want)
		}
		if got := m.Readings()[0].Model; got != "model" {
			t.Errorf("with error %d: the load is that of a %s, want that of the GPU", code, got)
		}
	}
}
