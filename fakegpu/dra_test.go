package fakegpu_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// allocatable is what a DRA driver publishes of a GPU or MIG device.
type allocatable struct {
	UUID, Parent, Bus, Name string
	Memory                  uint64
	GI, CI, Start           uint32
	SMs                     uint32
}

// need ends the test where a driver would give up.
func need[V any](t *testing.T) func(v V, r nvml.Return) V {
	return func(v V, r nvml.Return) V {
		t.Helper()
		if r != nvml.SUCCESS {
			t.Fatalf("a driver that asks this gives up: %v", r)
		}
		return v
	}
}

// enumerate plays how NVIDIA's DRA driver finds out what a node has, with MIG
// devices that are there already (static MIG).
func enumerate(t *testing.T, lib nvml.Interface) (all []allocatable) {
	t.Helper()
	need[string](t)(lib.SystemGetDriverVersion())
	need[int](t)(lib.SystemGetCudaDriverVersion())
	for i := range need[int](t)(lib.DeviceGetCount()) {
		d := need[nvml.Device](t)(lib.DeviceGetHandleByIndex(i))
		need[int](t)(d.GetMinorNumber())
		need[nvml.BrandType](t)(d.GetBrand())
		need[nvml.DeviceArchitecture](t)(d.GetArchitecture())
		need[nvml.DeviceAddressingMode](t)(d.GetAddressingMode())
		if _, _, r := d.GetCudaComputeCapability(); r != nvml.SUCCESS {
			t.Fatalf("compute capability of %d: %v", i, r)
		}
		pci := need[nvml.PciInfo](t)(d.GetPciInfo())
		gpu := allocatable{UUID: need[string](t)(d.GetUUID()), Bus: text(pci.BusId[:]), Name: need[string](t)(d.GetName()), Memory: need[nvml.Memory](t)(d.GetMemoryInfo()).Total}
		again := need[nvml.Device](t)(lib.DeviceGetHandleByPciBusId(gpu.Bus))
		if uuid := need[string](t)(again.GetUUID()); uuid != gpu.UUID {
			t.Errorf("at %s is %s, want %s", gpu.Bus, uuid, gpu.UUID)
		}
		mode, _, r := d.GetMigMode()
		if r != nvml.SUCCESS || mode != nvml.DEVICE_MIG_ENABLE {
			all = append(all, gpu)
			continue
		}
		for j := range need[int](t)(d.GetMaxMigDeviceCount()) {
			m, r := d.GetMigDeviceHandleByIndex(j)
			if r == nvml.ERROR_NOT_FOUND {
				continue
			}
			all = append(all, static(t, gpu, need[nvml.Device](t)(m, r)))
		}
	}
	return all
}

// static describes a MIG device by its instances and their profiles.
func static(t *testing.T, gpu allocatable, m nvml.Device) allocatable {
	t.Helper()
	parent := need[nvml.Device](t)(m.GetDeviceHandleFromMigDeviceHandle())
	if uuid := need[string](t)(parent.GetUUID()); uuid != gpu.UUID {
		t.Errorf("the parent is %s, want %s", uuid, gpu.UUID)
	}
	gi := need[nvml.GpuInstance](t)(parent.GetGpuInstanceById(need[int](t)(m.GetGpuInstanceId())))
	instance := need[nvml.GpuInstanceInfo](t)(gi.GetInfo())
	ci := need[nvml.ComputeInstance](t)(gi.GetComputeInstanceById(need[int](t)(m.GetComputeInstanceId())))
	compute := need[nvml.ComputeInstanceInfo](t)(ci.GetInfo())

	// The profile is looked for among all that the GPU may have.
	var profile nvml.GpuInstanceProfileInfo
	for kind := range nvml.GPU_INSTANCE_PROFILE_COUNT {
		info, r := parent.GetGpuInstanceProfileInfo(kind)
		if r == nvml.ERROR_NOT_SUPPORTED || r == nvml.ERROR_INVALID_ARGUMENT {
			continue
		}
		if need[nvml.GpuInstanceProfileInfo](t)(info, r); info.Id == instance.ProfileId {
			profile = info
		}
	}
	if profile.SliceCount == 0 {
		t.Fatalf("no profile has the id %d of the instance", instance.ProfileId)
	}
	if places := need[[]nvml.GpuInstancePlacement](t)(parent.GetGpuInstancePossiblePlacements(&profile)); !slices.Contains(places, instance.Placement) {
		t.Errorf("the instance is at %+v, and its profile may be at %+v", instance.Placement, places)
	}
	memory := need[nvml.Memory](t)(m.GetMemoryInfo()).Total
	if memory>>20 != profile.MemorySizeMB {
		t.Errorf("the device has %d MiB, and its profile %d", memory>>20, profile.MemorySizeMB)
	}
	return allocatable{UUID: need[string](t)(m.GetUUID()), Parent: gpu.UUID, Bus: gpu.Bus, Name: need[string](t)(m.GetName()), Memory: memory,
		GI: instance.Id, CI: compute.Id, Start: instance.Placement.Start, SMs: profile.MultiprocessorCount}
}

func TestDRADriverFindsStaticMIG(t *testing.T) {
	lib, dir, gpus := open(t, fakegpu.Spec{Profile: "H100-80GB", Count: 3})
	check(t, fakegpu.SplitMIG(dir, "1", "3g.40gb", "1g.10gb", "1g.10gb"))
	divided := need[nvml.Device](t)(lib.DeviceGetHandleByIndex(1))
	until(t, "it is divided", func() bool { mode, _, _ := divided.GetMigMode(); return mode == nvml.DEVICE_MIG_ENABLE })
	state, err := fakegpu.Load(dir)
	check(t, err)
	whole := func(i int) allocatable {
		return allocatable{UUID: gpus[i].UUID, Bus: fmt.Sprintf("00000000:%02X:00.0", i+1), Name: gpus[i].Name, Memory: gpus[i].Numbers["memory"]}
	}
	want := []allocatable{whole(0)}
	for _, m := range state.GPUs[1].MIGs {
		share := map[uint64]string{1: "1g.10gb", 3: "3g.40gb"}[m.Slices]
		want = append(want, allocatable{UUID: m.UUID, Parent: gpus[1].UUID, Bus: "00000000:02:00.0", Name: gpus[1].Name + " MIG " + share, Memory: m.Memory,
			GI: uint32(m.GI), CI: uint32(m.CI), Start: uint32(m.Start), SMs: uint32(m.SMs)})
	}
	if diff := cmp.Diff(append(want, whole(2)), enumerate(t, lib)); diff != "" {
		t.Errorf("what a DRA driver publishes (-want +got):\n%s", diff)
	}
}

// recovery asks what would end the trouble of a GPU.
func recovery(t *testing.T, d nvml.Device) uint64 {
	t.Helper()
	values := []nvml.FieldValue{{FieldId: nvml.FI_DEV_GET_GPU_RECOVERY_ACTION}}
	if r := d.GetFieldValues(values); r != nvml.SUCCESS || nvml.Return(values[0].NvmlReturn) != nvml.SUCCESS {
		t.Fatalf("recovery action: %v, %v", r, nvml.Return(values[0].NvmlReturn))
	}
	return binary.NativeEndian.Uint64(values[0].Value[:])
}

// TestDRADriverHearsOfInstances plays its health check: an Xid in an instance is
// for that MIG device, one without for all of the GPU.
func TestDRADriverHearsOfInstances(t *testing.T) {
	lib, dir, gpus := open(t, fakegpu.Spec{Profile: "H100-80GB", Count: 2})
	check(t, fakegpu.SplitMIG(dir, "1", "3g.40gb", "1g.10gb"))
	divided := need[nvml.Device](t)(lib.DeviceGetHandleByIndex(1))
	until(t, "it is divided", func() bool { mode, _, _ := divided.GetMigMode(); return mode == nvml.DEVICE_MIG_ENABLE })
	devices := enumerate(t, lib)
	set := need[nvml.EventSet](t)(lib.EventSetCreate())
	defer set.Free()
	for i := range gpus {
		d := need[nvml.Device](t)(lib.DeviceGetHandleByIndex(i))
		const types = nvml.EventTypeXidCriticalError | nvml.EventTypeDoubleBitEccError | nvml.EventTypeSingleBitEccError
		if able := need[uint64](t)(d.GetSupportedEventTypes()); able&types != types {
			t.Fatalf("events of %d are %x, want %x among them", i, able, types)
		}
		if r := d.RegisterEvents(types, set); r != nvml.SUCCESS {
			t.Fatalf("register for events: %v", r)
		}
	}
	affected := func() (uuids []string) {
		e := need[nvml.EventData](t)(set.Wait(10_000))
		gpu := need[string](t)(e.Device.GetUUID())
		for _, d := range devices {
			if d.UUID == gpu || d.Parent == gpu && (e.GpuInstanceId == 0xFFFFFFFF || e.GpuInstanceId == d.GI && e.ComputeInstanceId == d.CI) {
				uuids = append(uuids, d.UUID)
			}
		}
		return uuids
	}
	check(t, fakegpu.RaiseXid(dir, devices[2].UUID, 43))
	if diff := cmp.Diff([]string{devices[2].UUID}, affected()); diff != "" {
		t.Errorf("an Xid of an instance is for (-want +got):\n%s", diff)
	}

	second := need[nvml.Device](t)(lib.DeviceGetHandleByIndex(1))
	if action := recovery(t, second); action != 0 {
		t.Errorf("the recovery action is %d before anything happens", action)
	}
	check(t, fakegpu.RaiseXid(dir, "1", 79))
	if diff := cmp.Diff([]string{devices[1].UUID, devices[2].UUID}, affected()); diff != "" {
		t.Errorf("an Xid of the GPU is for (-want +got):\n%s", diff)
	}
	until(t, "a reset is asked for", func() bool { return recovery(t, second) == uint64(nvml.GPU_RECOVERY_ACTION_GPU_RESET) })
	check(t, fakegpu.Heal(dir, "1"))
	until(t, "no recovery is asked for after the reset", func() bool { return recovery(t, second) == 0 })
	check(t, fakegpu.RaiseXid(dir, "0", 48))
	if diff := cmp.Diff([]string{gpus[0].UUID}, affected()); diff != "" {
		t.Errorf("an Xid of a GPU that is whole is for (-want +got):\n%s", diff)
	}
}
