package gpu

import (
	"errors"
	"math"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"

	"github.com/studioml/studio-go-runner/runner/api"
)

// What each answer of NVML is a sign of.
func TestReadSigns(t *testing.T) {
	fail := nvml.ERROR_UNKNOWN
	before := signs{failure: errors.New("of the last time"), uncorrected: 1, remapPending: true, remapFailed: true, retirePending: true, recovery: 1}
	for name, test := range map[string]struct {
		change  func(*mock.Device)
		before  signs
		want    signs
		counted bool // NVML has told how many errors there are
	}{
		"no such things": {func(*mock.Device) {}, before, signs{}, true},
		"a GPU that does not even tell its name": {func(d *mock.Device) {
			d.GetNameFunc = func() (string, nvml.Return) { return "", nvml.ERROR_GPU_IS_LOST }
		}, signs{uncorrected: 1, retirePending: true}, signs{failure: nvml.ERROR_GPU_IS_LOST, uncorrected: 1, retirePending: true}, false},
		"all of them": {func(d *mock.Device) {
			d.GetTotalEccErrorsFunc = func(kind nvml.MemoryErrorType, since nvml.EccCounterType) (uint64, nvml.Return) {
				if kind != nvml.MEMORY_ERROR_TYPE_UNCORRECTED || since != nvml.VOLATILE_ECC {
					t.Errorf("asked for errors of kind %d since %d", kind, since)
				}
				return 7, nvml.SUCCESS
			}
			d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 0, true, true, nvml.SUCCESS }
			d.GetRetiredPagesPendingStatusFunc = func() (nvml.EnableState, nvml.Return) { return nvml.FEATURE_ENABLED, nvml.SUCCESS }
		}, signs{}, signs{uncorrected: 7, remapPending: true, remapFailed: true, retirePending: true}, true},
		"none of them any more": {func(d *mock.Device) {
			d.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) { return 0, nvml.SUCCESS }
			d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 0, false, false, nvml.SUCCESS }
			d.GetRetiredPagesPendingStatusFunc = func() (nvml.EnableState, nvml.Return) { return nvml.FEATURE_DISABLED, nvml.SUCCESS }
		}, before, signs{}, true},
		"answers that fail": {func(d *mock.Device) {
			d.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) { return 9, fail }
			d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 0, false, false, fail }
			d.GetRetiredPagesPendingStatusFunc = func() (nvml.EnableState, nvml.Return) { return nvml.FEATURE_DISABLED, fail }
			d.GetFieldValuesFunc = func([]nvml.FieldValue) nvml.Return { return fail }
		}, before, signs{uncorrected: 1, remapPending: true, remapFailed: true, retirePending: true, recovery: 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGPU("GPU-a")
			test.change(g.Device)
			r := record{signs: test.before, baseline: math.MaxUint64}
			if r.read(g); r.signs != test.want || (r.baseline < math.MaxUint64) != test.counted {
				t.Errorf("read %+v, baseline %d; want %+v, counted: %v", r.signs, r.baseline, test.want, test.counted)
			}
		})
	}
}

// A GPU that is new may be sick, and what tells may take its time.
func TestAGPUIsNotGivenBeforeItsHealthIsKnown(t *testing.T) {
	machine, m := newMachine("GPU-a"), newMonitor("-", "-")
	machine.gpus[0].GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) {
		if got := m.Pool.healthy(); len(got) > 0 {
			t.Errorf("tasks can have %v already", got)
		}
		return 0, 0, false, true, nvml.SUCCESS
	}
	if err := m.lookAt(machine); err != nil {
		t.Fatal(err)
	}
	if list := m.Pool.List(); len(list) != 1 || list[0].Health != api.Sick {
		t.Errorf("pool %v, want one sick GPU", list)
	}
}

// What NVML fails to tell for a moment is as it was before.
func TestAnAnswerThatFailsChangesNoHealth(t *testing.T) {
	machine, m := newMachine("GPU-a"), newMonitor("-", "-")
	g, code, errors, action := machine.gpus[0], nvml.ERROR_UNKNOWN, uint64(5), nvml.DeviceGpuRecoveryAction(0)
	g.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) {
		if code != nvml.SUCCESS {
			return 0, code
		}
		return errors, code
	}
	g.GetFieldValuesFunc = func(values []nvml.FieldValue) nvml.Return {
		values[0].NvmlReturn = uint32(code)
		if code == nvml.SUCCESS {
			values[0].Value[0] = byte(action)
		}
		return nvml.SUCCESS
	}
	for i, test := range []struct {
		code   nvml.Return
		action nvml.DeviceGpuRecoveryAction
		want   api.Health
	}{
		{nvml.ERROR_UNKNOWN, 0, api.Healthy}, {nvml.SUCCESS, 0, api.Healthy}, // the errors are old
		{nvml.ERROR_UNKNOWN, 0, api.Healthy}, {nvml.SUCCESS, 0, api.Healthy},
		{nvml.SUCCESS, nvml.GPU_RECOVERY_ACTION_GPU_RESET, api.Sick}, {nvml.ERROR_UNKNOWN, 0, api.Sick},
		{nvml.SUCCESS, 0, api.Healthy},
		{nvml.SUCCESS, nvml.GPU_RECOVERY_ACTION_GPU_RESET, api.Sick}, {nvml.ERROR_NOT_SUPPORTED, 0, api.Healthy},
	} {
		code, action = test.code, test.action
		if err := m.lookAt(machine); err != nil {
			t.Fatal(err)
		}
		if got := m.Pool.List()[0]; got.Health != test.want {
			t.Errorf("look %d: %s (%s), want %s", i, got.Health, got.HealthReason, test.want)
		}
	}
}
