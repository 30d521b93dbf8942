package gpu

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// eventSet is a set of NVML with the GPUs that it was made for. The zero value
// is none.
type eventSet struct {
	nvml.EventSet
	gpus map[string]nvml.Device
}

func (s eventSet) free() {
	if s.EventSet != nil {
		s.EventSet.Free()
	}
}

// wantedEvents are the events after which the monitor looks at once.
const wantedEvents = nvml.EventTypeXidCriticalError | nvml.EventTypeDoubleBitEccError | nvml.EventTypeSingleBitEccError

// subscribe returns a set with the GPUs that answer now: a set with a lost GPU
// reports nothing but the loss. The new set is there before the old one is
// read for the last time, so that no event falls between them.
func (m *Monitor) subscribe(lib nvml.Interface, old eventSet, gpus map[string]nvml.Device) eventSet {
	same := func(a, b nvml.Device) bool { return a == b }
	if old.EventSet != nil && maps.EqualFunc(old.gpus, gpus, same) {
		return old
	}
	next := eventSet{gpus: make(map[string]nvml.Device)}
	set, code := lib.EventSetCreate()
	if code == nvml.SUCCESS {
		next.EventSet = set
	}
	for uuid, gpu := range gpus {
		types, code := gpu.GetSupportedEventTypes()
		if types &= wantedEvents; code == nvml.SUCCESS && types != 0 && next.EventSet != nil {
			code = gpu.RegisterEvents(types, set)
		}
		r := m.record(uuid)
		if code == nvml.ERROR_NOT_SUPPORTED {
			code = nvml.SUCCESS
		}
		if code == nvml.SUCCESS {
			next.gpus[uuid] = gpu
		} else if code != r.deaf { // and is tried again after the next look, because the set is not complete
			m.Log.Warn("no events of a GPU", "gpu", uuid, "error", lib.ErrorString(code))
		}
		r.deaf = code
	}
	for old.EventSet != nil && m.next(old, 0) == nvml.SUCCESS {
	}
	old.free()
	return next
}

// wait waits for an event and reports whether something came that calls for a
// look. Without events it only waits.
func (m *Monitor) wait(ctx context.Context, events eventSet, d time.Duration) bool {
	if events.EventSet == nil {
		pause(ctx, d)
		return false
	}
	m.setBusy(true)
	code := m.next(events, d)
	m.setBusy(false)
	switch code {
	case nvml.SUCCESS:
		return true
	case nvml.ERROR_TIMEOUT:
		return false
	}
	// It may have answered at once, and may do so again.
	pause(ctx, d)
	return code == nvml.ERROR_GPU_IS_LOST
}

// next waits for an event, notes it, and returns NVML's answer.
func (m *Monitor) next(events eventSet, d time.Duration) nvml.Return {
	event, code := events.Wait(uint32(d.Milliseconds()))
	if code != nvml.SUCCESS || event.EventType != nvml.EventTypeXidCriticalError {
		return code
	}
	uuid := events.uuid(event.Device)
	m.Log.Warn("Xid", "gpu", uuid, "xid", event.EventData, "harmless", slices.Contains(m.HarmlessXids, event.EventData))
	if uuid != "" {
		m.record(uuid).raise(event.EventData, m.HarmlessXids)
	}
	return code
}

// uuid tells which GPU of the set an event is about. It asks the GPU, which may
// be lost by now, only if it must.
func (s eventSet) uuid(device nvml.Device) string {
	for uuid, gpu := range s.gpus {
		if gpu == device {
			return uuid
		}
	}
	uuid, _ := device.GetUUID()
	return uuid
}
