package gpu

import (
	"fmt"
	"slices"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/studioml/studio-go-runner/runner/api"
)

// ApplicationXids are the Xids that concern the application and leave the GPU
// in service. NVIDIA's device plugin and DRA driver start from the same list.
var ApplicationXids = []uint64{13, 31, 43, 45, 68, 109}

// signs are what NVML has last said about the health of a GPU. What the GPU or
// its driver does not support stays zero.
type signs struct {
	failure         string // NVML's answer where it would not talk about the GPU
	uncorrected     uint64 // volatile ECC errors; the count starts anew when the GPU is reset
	uncounted       bool   // NVML has not told yet how many those are
	remapFailed     bool
	remapPending    bool
	retirePending   bool
	recovery        recovery
	knowsOfRecovery bool
}

// recovery is what a GPU needs before it is well again. An Xid that this
// process has not seen, because it has started since, can still be told by it.
type recovery nvml.DeviceGpuRecoveryAction

// waits reports whether what runs on the GPU may finish first. The driver
// asks for a drain then; whatever else it may ask for one day takes the GPU out.
func (r recovery) waits() bool {
	switch nvml.DeviceGpuRecoveryAction(r) {
	case nvml.GPU_RECOVERY_ACTION_DRAIN_P2P, nvml.GPU_RECOVERY_ACTION_DRAIN_AND_RESET,
		nvml.GPU_RECOVERY_ACTION_RECOVER_IMEX_DOMAIN: // of the links to other nodes
		return true
	}
	return false
}

// need says in words what NVML asks for.
func (r recovery) need() string {
	var do string
	switch nvml.DeviceGpuRecoveryAction(r) {
	case nvml.GPU_RECOVERY_ACTION_GPU_RESET:
		do = "reset the GPU"
	case nvml.GPU_RECOVERY_ACTION_NODE_REBOOT:
		do = "reboot the node"
	case nvml.GPU_RECOVERY_ACTION_DRAIN_P2P:
		do = "drain its peer-to-peer traffic"
	case nvml.GPU_RECOVERY_ACTION_DRAIN_AND_RESET:
		do = "drain its peer-to-peer traffic and reset the GPU"
	case nvml.GPU_RECOVERY_ACTION_RECOVER_IMEX_DOMAIN:
		do = "recover the IMEX domain"
	case nvml.GPU_RECOVERY_ACTION_BUS_RESET:
		do = "reset the PCIe bus of the GPU"
	case nvml.GPU_RECOVERY_ACTION_SYSTEM_REBOOT:
		do = "reboot the system"
	default:
		do = fmt.Sprintf("recovery action %d", r)
	}
	return "the driver asks for a recovery: " + do
}

// record is what is remembered of a GPU from one look at it to the next.
type record struct {
	signs    signs // as of the last look at which NVML talked about the GPU
	seen     bool
	baseline uint64      // uncorrected errors that were there before, or that a reset has left
	xid      uint64      // the Xid that took the GPU out; 0 for none
	xidShown bool        // whether the driver itself has shown the damage since
	last     uint64      // the last Xid of any kind
	model    string      // of the GPU, when it last told
	deaf     nvml.Return // why NVML does not tell its events; SUCCESS if it does, or cannot
	told     api.Health
}

// raise remembers an Xid. Only the first counts: the others follow from it.
func (r *record) raise(xid uint64, harmless []uint64) {
	r.last = xid
	if r.xid == 0 && !slices.Contains(harmless, xid) {
		r.xid, r.xidShown = xid, false
	}
}

// diagnose says how a GPU is. An Xid is an event and says nothing about what is
// so now; the GPU comes back once the driver has shown the damage, as a lost
// GPU or as a recovery that it needs, and no longer shows it. A driver that
// never does leaves the GPU out until the runner starts again.
func (r *record) diagnose(s signs) (is api.Health, reason string) {
	needsRecovery := s.knowsOfRecovery && s.recovery != recovery(nvml.GPU_RECOVERY_ACTION_NONE)
	if s.failure == "" && !s.uncounted {
		if !r.seen || s.uncorrected < r.baseline {
			r.baseline = s.uncorrected
		}
		r.seen = true
	}
	damaged := s.failure != "" || needsRecovery
	switch {
	case damaged:
		r.xidShown = r.xid != 0
	case r.xidShown:
		r.xid, r.xidShown = 0, false
	}
	switch {
	case s.failure != "":
		return api.Sick, s.failure
	case r.xid != 0:
		return api.Sick, fmt.Sprintf("Xid %d", r.xid)
	case s.uncorrected > r.baseline:
		return api.Sick, fmt.Sprintf("%d uncorrectable ECC errors", s.uncorrected-r.baseline)
	case s.remapFailed:
		return api.Sick, "a row of its memory could not be remapped"
	case needsRecovery && !s.recovery.waits():
		return api.Sick, s.recovery.need()
	case s.remapPending:
		return api.Retiring, "a row of its memory is to be remapped; reset the GPU"
	case s.retirePending:
		return api.Retiring, "a page of its memory is to be retired; reset the GPU"
	case needsRecovery:
		return api.Retiring, s.recovery.need()
	}
	return api.Healthy, ""
}

// readSigns asks NVML for the signs of a GPU. Only a GPU that does not even
// tell its name is given up. What cannot be read for another reason than that
// there is no such thing stays as it was before: it is neither a sign nor the
// end of one.
func readSigns(d nvml.Device, before signs) signs {
	s := before
	s.failure = ""
	if _, code := d.GetName(); code != nvml.SUCCESS {
		s.failure = nvml.ErrorString(code)
		return s
	}
	told := func(code nvml.Return) bool { return code == nvml.SUCCESS || code == nvml.ERROR_NOT_SUPPORTED }
	if count, code := d.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC); told(code) {
		s.uncorrected, s.uncounted = count, false
	}
	if _, _, pending, failed, code := d.GetRemappedRows(); told(code) {
		s.remapPending, s.remapFailed = pending, failed
	}
	if pending, code := d.GetRetiredPagesPendingStatus(); told(code) {
		s.retirePending = pending == nvml.FEATURE_ENABLED
	}
	values := []nvml.FieldValue{{FieldId: nvml.FI_DEV_GET_GPU_RECOVERY_ACTION}}
	code := d.GetFieldValues(values)
	if code == nvml.SUCCESS {
		code = nvml.Return(values[0].NvmlReturn)
	}
	if told(code) {
		s.knowsOfRecovery = code == nvml.SUCCESS
		s.recovery = recovery(values[0].Value[0]) // the low byte of a little-endian number below 256
	}
	return s
}
