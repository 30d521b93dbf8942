package gpu

import (
	"errors"
	"math"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/studioml/studio-go-runner/runner/api"
)

// A story is what a GPU goes through, and what must be said of it after each
// look.
type chapter struct {
	xid    uint64
	signs  signs
	is     api.Health
	reason string
}

func TestDiagnose(t *testing.T) {
	knows := signs{recovery: nvml.GPU_RECOVERY_ACTION_NONE}
	needs := func(action nvml.DeviceGpuRecoveryAction) signs { return signs{recovery: action} }
	reset := needs(nvml.GPU_RECOVERY_ACTION_GPU_RESET)
	lost := signs{failure: errors.New("GPU is lost")}
	for name, story := range map[string][]chapter{
		"healthy": {{0, signs{}, api.Healthy, ""}, {0, knows, api.Healthy, ""}},
		"an Xid of the application": {
			{31, knows, api.Healthy, ""}, {13, signs{}, api.Healthy, ""},
		},
		"a fatal Xid that the driver shows, and a reset": {
			{0, knows, api.Healthy, ""}, {79, reset, api.Sick, "Xid 79"}, {0, reset, api.Sick, "Xid 79"}, {0, knows, api.Healthy, ""},
			{48, reset, api.Sick, "Xid 48"},
		},
		"the driver shows it only later": {
			{79, knows, api.Sick, "Xid 79"}, {0, knows, api.Sick, "Xid 79"}, {0, reset, api.Sick, "Xid 79"}, {0, knows, api.Healthy, ""},
		},
		"a driver that never shows it": {
			{79, signs{}, api.Sick, "Xid 79"}, {0, signs{}, api.Sick, "Xid 79"}, {0, signs{}, api.Sick, "Xid 79"},
		},
		"the GPU is lost after the Xid, and comes back": {
			{79, signs{}, api.Sick, "Xid 79"}, {0, lost, api.Sick, "GPU is lost"}, {0, signs{}, api.Healthy, ""},
		},
		"the first Xid is the reason": {
			{48, signs{}, api.Sick, "Xid 48"}, {79, signs{}, api.Sick, "Xid 48"},
		},
		"an Xid nobody knows": {{4711, signs{}, api.Sick, "Xid 4711"}},
		"lost, and found": {
			{0, lost, api.Sick, "GPU is lost"}, {0, signs{}, api.Healthy, ""},
		},
		"errors from before the start": {
			{0, signs{uncorrected: 3}, api.Healthy, ""}, {0, signs{uncorrected: 4}, api.Sick, "1 uncorrectable ECC errors"},
			{0, signs{uncorrected: 4}, api.Sick, "1 uncorrectable ECC errors"}, {0, signs{}, api.Healthy, ""},
			{0, signs{uncorrected: 2}, api.Sick, "2 uncorrectable ECC errors"},
		},
		"a lost GPU has no count of errors": {
			{0, signs{uncorrected: 3}, api.Healthy, ""}, {0, lost, api.Sick, "GPU is lost"}, {0, signs{uncorrected: 3}, api.Healthy, ""},
		},
		"remapping": {
			{0, signs{remapPending: true}, api.Retiring, "a row of its memory is to be remapped; reset the GPU"},
			{0, signs{remapPending: true, remapFailed: true}, api.Sick, "a row of its memory could not be remapped"},
			{0, signs{}, api.Healthy, ""},
			{0, signs{retirePending: true}, api.Retiring, "a page of its memory is to be retired; reset the GPU"},
		},
		"a recovery that a runner finds when it starts": {
			{0, reset, api.Sick, "the driver asks for a recovery: reset the GPU"}, {0, knows, api.Healthy, ""},
		},
		"a recovery after an Xid of the application": {
			{31, knows, api.Healthy, ""}, {0, reset, api.Sick, "the driver asks for a recovery: reset the GPU"},
		},
		"a recovery that waits for the task": {
			{0, needs(nvml.GPU_RECOVERY_ACTION_DRAIN_AND_RESET), api.Retiring, "the driver asks for a recovery: drain its peer-to-peer traffic and reset the GPU"},
			{0, needs(nvml.GPU_RECOVERY_ACTION_DRAIN_P2P), api.Retiring, "the driver asks for a recovery: drain its peer-to-peer traffic"},
			{0, needs(nvml.GPU_RECOVERY_ACTION_NODE_REBOOT), api.Sick, "the driver asks for a recovery: reboot the node"},
			{0, needs(99), api.Sick, "the driver asks for a recovery: recovery action 99"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := record{baseline: math.MaxUint64}
			for i, c := range story {
				if c.xid != 0 {
					r.raise(c.xid, ApplicationXids)
				}
				if r.signs = c.signs; r.failure == nil {
					r.count(c.signs.uncorrected)
				}
				if is, reason := r.diagnose(); is != c.is || reason != c.reason {
					t.Errorf("look %d: %s %q, want %s %q", i, is, reason, c.is, c.reason)
				}
			}
		})
	}
}
