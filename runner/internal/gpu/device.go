// Package gpu knows the GPUs of the machine: which there are, which of them
// this runner may use, and which task holds which.
package gpu

import (
	"fmt"
	"strconv"
	"strings"
)

// Device is one whole GPU.
type Device struct {
	UUID        string
	Index       int // NVML's index, which is not CUDA's
	Model       string
	MemoryBytes uint64
}

// Visible returns those of the devices that the environment leaves to this
// process, in the order in which it names them. NVML itself knows neither
// variable.
//
// nvidia is NVIDIA_VISIBLE_DEVICES of NVIDIA's container toolkit: all, a list
// of indices or UUIDs, or none, void and the empty text for no device at all.
// cuda is CUDA_VISIBLE_DEVICES of the CUDA programming guide: a list of indices
// or of UUIDs, which may be shortened while they stay unique; it ends at the
// first entry that names no device, and a device named twice leaves none.
// A nil variable is not set and hides nothing. Indices count in NVML's order.
func Visible(devices []Device, nvidia, cuda *string) ([]Device, error) {
	visible := devices
	if nvidia != nil {
		var err error
		if visible, err = visibleToToolkit(visible, *nvidia); err != nil {
			return nil, err
		}
	}
	if cuda != nil {
		visible = visibleToCUDA(visible, *cuda)
	}
	return visible, nil
}

func visibleToToolkit(devices []Device, list string) ([]Device, error) {
	switch strings.TrimSpace(list) {
	case "all":
		return devices, nil
	case "none", "void", "":
		return nil, nil
	}
	var visible []Device
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		d, ok := find(devices, entry, func(uuid string) bool { return uuid == entry })
		if !ok {
			return nil, fmt.Errorf("NVIDIA_VISIBLE_DEVICES names %q, but there is no such GPU; allowed are all, none, void, indices below %d and UUIDs",
				entry, len(devices))
		}
		visible = append(visible, d)
	}
	return visible, nil
}

func visibleToCUDA(devices []Device, list string) []Device {
	var visible []Device
	seen := make(map[string]bool)
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		d, ok := find(devices, entry, func(uuid string) bool {
			return strings.HasPrefix(entry, "GPU-") && strings.HasPrefix(uuid, entry)
		})
		if !ok {
			break
		}
		if seen[d.UUID] {
			return nil
		}
		seen[d.UUID] = true
		visible = append(visible, d)
	}
	return visible
}

// find returns the one device that entry names, by its place in the list or by
// its UUID.
func find(devices []Device, entry string, matches func(uuid string) bool) (Device, bool) {
	if i, err := strconv.Atoi(entry); err == nil {
		if i < 0 || i >= len(devices) {
			return Device{}, false
		}
		return devices[i], true
	}
	var found []Device
	for _, d := range devices {
		if matches(d.UUID) {
			found = append(found, d)
		}
	}
	if len(found) != 1 {
		return Device{}, false
	}
	return found[0], true
}
