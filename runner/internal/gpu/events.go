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
	gpus map[nvml.Device]string // with their UUIDs
}

func (s eventSet) free() {
	if s.EventSet != nil {
		s.EventSet.Free()
	}
}

// wantedEvents are the events after which the monitor looks at once.
const wantedEvents = nvml.EventTypeXidCriticalError | nvml.EventTypeDoubleBitEccError | nvml.EventTypeSingleBitEccError

// subscribe makes a set with the GPUs that answer now: a set with a lost GPU
// reports nothing but the loss. The new set is there before the old one is
// read for the last time, so that no event falls between them.
func (m *Monitor) subscribe(gpus map[nvml.Device]string) {
	if m.events.EventSet != nil && maps.Equal(m.events.gpus, gpus) {
		return
	}
	next := eventSet{gpus: make(map[nvml.Device]string)}
	if set, code := m.lib.EventSetCreate(); code == nvml.SUCCESS {
		next.EventSet = set
	}
	for gpu, uuid := range gpus {
		types, code := gpu.GetSupportedEventTypes()
		if types &= wantedEvents; code == nvml.SUCCESS && types != 0 && next.EventSet != nil {
			code = gpu.RegisterEvents(types, next.EventSet)
		}
		if code == nvml.ERROR_NOT_SUPPORTED {
			code = nvml.SUCCESS
		}
		r := m.record(uuid)
		if code == nvml.SUCCESS {
			next.gpus[gpu] = uuid
		} else if code != r.deaf { // and is tried again after the next look, because the set is not complete
			m.Log.Warn("no events of a GPU", "gpu", uuid, "error", code)
		}
		r.deaf = code
	}
	m.hear()
	m.events.free()
	m.events = next
}

// mostEvents are heard at once: a driver that is never out of them is looked at all the same.
const mostEvents = 100

// hear notes the events that have come.
func (m *Monitor) hear() {
	for n := 0; n < mostEvents && m.events.EventSet != nil && m.next(0) == nvml.SUCCESS; n++ {
		m.follow(true)
	}
}

// wait waits for an event, no longer than a slice, and reports whether something came that
// calls for a look. Without events it only waits, until ctx ends at the latest.
func (m *Monitor) wait(ctx context.Context, d time.Duration) bool {
	code := nvml.ERROR_NOT_SUPPORTED
	if m.events.EventSet != nil {
		d = min(d, slice)
		hang := time.AfterFunc(hangLimit, m.hangs)
		code = m.next(d)
		hang.Stop()
	}
	if code != nvml.SUCCESS && code != nvml.ERROR_TIMEOUT {
		select {
		case <-time.After(d): // it may have answered at once, and may do so again
		case <-ctx.Done():
		}
	}
	return code == nvml.SUCCESS || code == nvml.ERROR_GPU_IS_LOST
}

// next waits for an event, notes it, and returns NVML's answer.
func (m *Monitor) next(d time.Duration) nvml.Return {
	// What is below zero, where the end has passed meanwhile, would be for ever to NVML.
	event, code := m.events.Wait(uint32(max(0, d).Milliseconds()))
	if code != nvml.SUCCESS || event.EventType != nvml.EventTypeXidCriticalError {
		return code
	}
	uuid, known := m.events.gpus[event.Device]
	if !known { // it may be lost by now, so it is asked only if it must be
		uuid, _ = event.Device.GetUUID()
	}
	m.Log.Warn("Xid", "gpu", uuid, "xid", event.EventData, "harmless", slices.Contains(m.HarmlessXids, event.EventData))
	if uuid != "" {
		m.record(uuid).raise(event.EventData, m.HarmlessXids)
	}
	return code
}
