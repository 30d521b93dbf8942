// Package gpu knows the GPUs of the machine: which there are, which of them
// this runner may use, and which task holds which.
package gpu

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Device is what a task can be given: a whole GPU, or a MIG device.
type Device struct {
	UUID        string
	Parent      string // UUID of the GPU that a MIG device is part of
	Index       int    // NVML's index of the GPU, which is not CUDA's
	Model       string
	MemoryBytes uint64
	// Near says how close other devices are, by UUID. Who is missing is Far.
	Near map[string]Closeness
}

// gpu is the UUID of the GPU that the device is or is part of.
func (d Device) gpu() string { return cmp.Or(d.Parent, d.UUID) }

// Visible returns those of the devices that the environment leaves to this
// process, in the order in which it names them. NVML itself knows neither
// variable.
//
// nvidia is NVIDIA_VISIBLE_DEVICES of NVIDIA's container toolkit: all, a list
// of indices or UUIDs, or none and the empty text for no device at all. Void
// hides nothing: it says that the toolkit was told of the devices in another
// way (CDI), and then NVML shows only those.
// cuda is CUDA_VISIBLE_DEVICES of the CUDA programming guide: a list of indices
// or of UUIDs, which may be shortened while they stay unique; it ends at the
// first entry that names no device, and a device named twice leaves none.
// A nil variable is not set and hides nothing. Indices count the GPUs in NVML's
// order, for CUDA among the visible ones. Both take the UUID of a MIG device, in full, as well; an entry for a
// GPU that is divided into MIG devices means all of them.
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
	case "all", "void":
		return devices, nil
	case "none", "":
		return nil, nil
	}
	var visible []Device
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		named := find(devices, entry, func(_ int, d Device) bool {
			return d.gpu() == entry || strconv.Itoa(d.Index) == entry
		})
		if named == nil {
			return nil, fmt.Errorf("NVIDIA_VISIBLE_DEVICES names %q, but there is no such GPU; allowed are all, none, void, indices as of nvidia-smi and UUIDs", entry)
		}
		for _, d := range named {
			if !slices.ContainsFunc(visible, func(other Device) bool { return other.UUID == d.UUID }) {
				visible = append(visible, d)
			}
		}
	}
	return visible, nil
}

func visibleToCUDA(devices []Device, list string) []Device {
	var visible []Device
	seen := make(map[string]bool)
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		named := find(devices, entry, func(place int, d Device) bool {
			return strconv.Itoa(place) == entry || strings.HasPrefix(entry, "GPU-") && strings.HasPrefix(d.gpu(), entry)
		})
		if named == nil {
			break
		}
		for _, d := range named {
			if seen[d.UUID] {
				return nil
			}
			seen[d.UUID] = true
		}
		visible = append(visible, named...)
	}
	return visible
}

// find returns the devices that entry names: a MIG device by its UUID, or those
// of the one GPU that matches, judged by its place among the GPUs and its first
// device. It returns nil where there is none, or more than one.
func find(devices []Device, entry string, matches func(place int, d Device) bool) []Device {
	var named []Device
	var gpus []string
	found := make(map[string]bool)
	for i, d := range devices {
		if d.Parent != "" && d.UUID == entry {
			return devices[i : i+1]
		}
		if !slices.Contains(gpus, d.gpu()) {
			found[d.gpu()] = matches(len(gpus), d)
			gpus = append(gpus, d.gpu())
		}
		if found[d.gpu()] {
			named = append(named, d)
		}
	}
	if len(named) > 0 && named[0].gpu() == named[len(named)-1].gpu() {
		return named
	}
	return nil
}
