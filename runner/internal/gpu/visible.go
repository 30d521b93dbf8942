package gpu

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Visible returns those of the devices that the environment leaves to this
// process, in the order in which CUDA names them. NVML itself knows neither
// variable. One that is nil is not set, and hides nothing.
//
// nvidia is NVIDIA_VISIBLE_DEVICES of NVIDIA's container toolkit: all, a list of
// indices or UUIDs, or none and the empty text for no device at all. The indices may
// be those of the host, of a container that has these GPUs only. Void hides nothing:
// the toolkit was told of the devices in another way, and NVML shows only those.
// cuda is CUDA_VISIBLE_DEVICES of the CUDA programming guide: a list of indices among
// what is left, or of UUIDs, which may be shortened while they stay unique; it ends at
// the first entry that names no device, and a device named twice leaves none.
// Both take the UUID of a MIG device in full; an entry for a GPU that is divided means
// all of its MIG devices.
//
// A GPU that has not answered yet is a device without UUID. It has its index
// nevertheless, and is left where a UUID that no other device has may be its own.
func Visible(devices []Device, nvidia, cuda *string) ([]Device, error) {
	visible := devices
	var err error
	if nvidia != nil {
		visible, err = visibleToToolkit(visible, *nvidia)
	}
	if cuda != nil {
		visible = visibleToCUDA(visible, *cuda)
	}
	return visible, err
}

// elsewhere matches what says that the GPUs were given in another way: the
// directory under which a device plugin mounts them, and names of CDI.
var elsewhere = regexp.MustCompile(`^(/.*|[^/=]+/[^/=]+=.+)$`)

func visibleToToolkit(devices []Device, list string) ([]Device, error) {
	switch strings.TrimSpace(list) {
	case "all", "void":
		return devices, nil
	case "none", "":
		return nil, nil
	}
	entries := strings.Split(list, ",")
	for i := range entries {
		entries[i] = strings.TrimSpace(entries[i])
	}
	if !slices.ContainsFunc(entries, func(e string) bool { return !elsewhere.MatchString(e) }) || countsOnHost(devices, entries) {
		return devices, nil
	}
	var named []Device
	for _, entry := range entries {
		found := find(devices, entry, func(_ int, d Device) bool {
			return strconv.Itoa(d.Index) == entry || !d.silent() && d.gpu() == entry
		})
		if len(found) == 0 {
			return nil, fmt.Errorf("NVIDIA_VISIBLE_DEVICES names %s, but NVML shows no such GPU, only %s; "+
				"allowed are all, none, void, indices as of nvidia-smi here, and UUIDs; in a container that was given its GPUs in another way, set it to void",
				api.Excerpt(entry), indices(devices))
		}
		named = append(named, found...)
	}
	// In a container, NVML's order is that of the machine, whatever was named first.
	hidden := func(d Device) bool { return !slices.ContainsFunc(named, d.same) }
	return slices.DeleteFunc(slices.Clone(devices), hidden), nil
}

// countsOnHost reports whether the entries can only be indices of the host, of
// which the container has these GPUs and no others, as docker run --gpus
// '"device=2,3"' leaves it: as many indices as GPUs, and not all of them from
// here. NVML counts the GPUs of a container anew.
func countsOnHost(devices []Device, entries []string) bool {
	here, named, foreign := make(map[string]bool), make(map[string]bool), false
	for _, d := range devices {
		here[strconv.Itoa(d.Index)] = true
	}
	for _, entry := range entries {
		if _, err := strconv.ParseUint(entry, 10, 32); err != nil {
			return false
		}
		named[entry] = true
		foreign = foreign || !here[entry]
	}
	return foreign && len(named) == len(here)
}

// indices says in words which GPUs there are.
func indices(devices []Device) string {
	var list []string
	for _, d := range devices {
		list = append(list, strconv.Itoa(d.Index))
	}
	return "GPU " + strings.Join(slices.Compact(list), ", ")
}

func visibleToCUDA(devices []Device, list string) (visible []Device) {
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		named := find(devices, entry, func(place int, d Device) bool {
			return strconv.Itoa(place) == entry || strings.HasPrefix(entry, "GPU-") && strings.HasPrefix(d.gpu(), entry)
		})
		if len(named) == 0 {
			break
		}
		for _, d := range named {
			if !slices.ContainsFunc(visible, d.same) {
				visible = append(visible, d)
			} else if !d.silent() {
				return nil
			}
		}
	}
	return visible
}

// find returns the devices that entry names: a MIG device by its UUID, or those
// of the one GPU that matches, judged by its place among the GPUs and its first
// device. Devices of one GPU have one index. A UUID of none may be that of a GPU
// that has not answered yet, or of a MIG device of such a one; then it returns all
// of those. It returns none where more than one matches.
func find(devices []Device, entry string, matches func(place int, d Device) bool) (named []Device) {
	found := make(map[int]bool) // by index
	for i, d := range devices {
		if d.Parent != "" && d.UUID == entry {
			return devices[i : i+1]
		}
		if _, seen := found[d.Index]; !seen {
			found[d.Index] = matches(len(found), d)
		}
		if found[d.Index] {
			named = append(named, d)
		}
	}
	if len(named) > 0 && named[0].Index == named[len(named)-1].Index {
		return named
	}
	shortened := func(d Device) bool { return strings.HasPrefix(d.gpu(), entry) }
	if !strings.HasPrefix(entry, "GPU-") && !strings.HasPrefix(entry, "MIG-") || slices.ContainsFunc(devices, shortened) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(devices), func(d Device) bool { return !d.silent() })
}
