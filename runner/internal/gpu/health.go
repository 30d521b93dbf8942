package gpu

import (
	"cmp"
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
	failure       error  // NVML's answer where it would not talk about the GPU
	uncorrected   uint64 // volatile ECC errors; the count starts anew when the GPU is reset
	remapFailed   bool
	remapPending  bool
	retirePending bool
	// recovery is what the GPU needs before it is well again. An Xid that this
	// process has not seen, because it has started since, can still be told by it.
	recovery nvml.DeviceGpuRecoveryAction
}

// recoveries say what the driver may ask for, and whether what runs on the GPU may
// finish first: it asks for a drain then, or for a repair of the links to other
// nodes. Whatever else it may ask for one day takes the GPU out.
var recoveries = map[nvml.DeviceGpuRecoveryAction]struct {
	do    string
	waits bool
}{
	nvml.GPU_RECOVERY_ACTION_GPU_RESET:           {do: "reset the GPU"},
	nvml.GPU_RECOVERY_ACTION_NODE_REBOOT:         {do: "reboot the node"},
	nvml.GPU_RECOVERY_ACTION_DRAIN_P2P:           {do: "drain its peer-to-peer traffic", waits: true},
	nvml.GPU_RECOVERY_ACTION_DRAIN_AND_RESET:     {do: "drain its peer-to-peer traffic and reset the GPU", waits: true},
	nvml.GPU_RECOVERY_ACTION_RECOVER_IMEX_DOMAIN: {do: "recover the IMEX domain", waits: true},
	nvml.GPU_RECOVERY_ACTION_BUS_RESET:           {do: "reset the PCIe bus of the GPU"},
	nvml.GPU_RECOVERY_ACTION_SYSTEM_REBOOT:       {do: "reboot the system"},
}

// record is what is remembered of a GPU from one look at it to the next.
type record struct {
	signs
	baseline uint64      // uncorrected errors that were there before, or that a reset has left
	xid      uint64      // the Xid that took the GPU out; 0 for none
	xidShown bool        // whether the driver itself has shown the damage since
	last     uint64      // the last Xid of any kind
	model    string      // when it last told
	deaf     nvml.Return // why NVML does not tell its events; SUCCESS if it does, or cannot
	health   api.Health  // as of the last look
}

// raise remembers an Xid. Only the first counts: the others follow from it.
func (r *record) raise(xid uint64, harmless []uint64) {
	r.last = xid
	if r.xid == 0 && !slices.Contains(harmless, xid) {
		r.xid, r.xidShown = xid, false
	}
}

// read asks NVML for the signs. Only a GPU that does not even tell its name is
// given up. What cannot be read for another reason than that there is no such
// thing stays as it was before: it is neither a sign nor the end of one.
func (r *record) read(d nvml.Device) {
	model, code := d.GetName()
	if code != nvml.SUCCESS {
		r.failure = code
		return
	}
	r.model, r.failure = model, nil
	told := func(code nvml.Return) bool { return code == nvml.SUCCESS || code == nvml.ERROR_NOT_SUPPORTED }
	if errors, code := d.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC); told(code) {
		r.count(errors)
	}
	if _, _, pending, failed, code := d.GetRemappedRows(); told(code) {
		r.remapPending, r.remapFailed = pending, failed
	}
	if pending, code := d.GetRetiredPagesPendingStatus(); told(code) {
		r.retirePending = pending == nvml.FEATURE_ENABLED
	}
	values := []nvml.FieldValue{{FieldId: nvml.FI_DEV_GET_GPU_RECOVERY_ACTION}}
	code = d.GetFieldValues(values)
	if code == nvml.SUCCESS {
		code = nvml.Return(values[0].NvmlReturn)
	}
	switch code {
	case nvml.SUCCESS:
		r.recovery = nvml.DeviceGpuRecoveryAction(values[0].Value[0]) // the low byte of a little-endian number below 256
	case nvml.ERROR_NOT_SUPPORTED:
		r.recovery = nvml.GPU_RECOVERY_ACTION_NONE
	}
}

// count notes how many uncorrected errors there are.
func (r *record) count(errors uint64) {
	r.baseline = min(r.baseline, errors)
	r.uncorrected = errors
}

// diagnose says how a GPU is. An Xid is an event and says nothing about what is
// so now; the GPU comes back once the driver has shown the damage, as a lost
// GPU or as a recovery that it needs, and no longer shows it. A driver that
// never does leaves the GPU out until the runner starts again.
func (r *record) diagnose() (is api.Health, reason string) {
	needs := r.recovery != nvml.GPU_RECOVERY_ACTION_NONE
	switch {
	case r.failure != nil || needs:
		r.xidShown = r.xid != 0
	case r.xidShown:
		r.xid, r.xidShown = 0, false
	}
	recovery := recoveries[r.recovery]
	need := "the driver asks for a recovery: " + cmp.Or(recovery.do, fmt.Sprintf("recovery action %d", r.recovery))
	switch {
	case r.failure != nil:
		return api.Sick, r.failure.Error()
	case r.xid != 0:
		return api.Sick, fmt.Sprintf("Xid %d", r.xid)
	case r.uncorrected > r.baseline:
		return api.Sick, fmt.Sprintf("%d uncorrectable ECC errors", r.uncorrected-r.baseline)
	case r.remapFailed:
		return api.Sick, "a row of its memory could not be remapped"
	case needs && !recovery.waits:
		return api.Sick, need
	case r.remapPending:
		return api.Retiring, "a row of its memory is to be remapped; reset the GPU"
	case r.retirePending:
		return api.Retiring, "a page of its memory is to be retired; reset the GPU"
	case needs:
		return api.Retiring, need
	}
	return api.Healthy, ""
}
