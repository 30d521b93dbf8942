package gpu

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

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

// silent reports whether the device stands for a GPU that has never answered,
// so that only its index is known.
func (d Device) silent() bool { return d.UUID == "" }

// same reports whether both are the same device, be it a silent one.
func (d Device) same(other Device) bool { return d.UUID == other.UUID && d.Index == other.Index }

// visibleError is an error of the configuration.
type visibleError struct{ error }

// visible returns the devices that this runner may use, and what is wrong with
// those that it may use and that have never answered. What the environment says
// about indices is about the machine as it was at the start; later the same devices
// are meant, whatever their index is then. A device that was once left to this
// runner stays so.
func (m *Monitor) visible(devices []Device, failures map[int]error) (visible []Device, problem string, err error) {
	m.place(devices, failures)
	if len(m.places) == 0 {
		return nil, "", nil
	}
	chosen, err := Visible(m.places, m.NVIDIA, m.CUDA)
	if m.chosen == nil {
		if err != nil {
			return nil, "", &visibleError{err}
		}
		m.chosen = make(map[string]bool)
	}
	var problems []string
	for _, d := range chosen {
		if d.silent() {
			problems = append(problems, fmt.Sprintf("GPU %d has not answered yet: %v", d.Index, cmp.Or(failures[d.Index], errors.New("removed"))))
		} else {
			m.chosen[d.UUID] = true
		}
	}
	hidden := func(d Device) bool { return !m.chosen[d.UUID] }
	return slices.DeleteFunc(slices.Clone(devices), hidden), strings.Join(problems, "; "), nil
}

// place gives every device its place among those that were ever there: a GPU
// that answers for the first time the one that was kept for its index, a MIG
// device that of its GPU, and what is new the next one.
func (m *Monitor) place(devices []Device, failures map[int]error) {
	start := len(m.places) == 0
	at := func(matches func(Device) bool) int { return slices.IndexFunc(m.places, matches) }
	for _, d := range devices {
		if at(func(p Device) bool { return p.UUID == d.UUID }) >= 0 {
			continue
		}
		kin := at(func(p Device) bool { return p.gpu() == d.gpu() })
		index := at(func(p Device) bool { return p.Index == d.Index })
		switch {
		case kin >= 0:
			d.Index = m.places[kin].Index
		case index >= 0 && m.places[index].silent():
			m.places[index] = d
			continue
		case index >= 0: // the present owner of that index is not the one of the start
			for _, p := range m.places {
				d.Index = max(d.Index, p.Index+1)
			}
		}
		m.places = append(m.places, d)
	}
	for i, err := range failures {
		taken := at(func(p Device) bool { return p.Index == i }) >= 0
		if !taken && !errors.Is(err, nvml.ERROR_NO_PERMISSION) { // such a GPU is another's, and CUDA does not count it
			m.places = append(m.places, Device{GPU: api.GPU{Index: i}})
		}
	}
	if start {
		slices.SortStableFunc(m.places, func(a, b Device) int { return cmp.Compare(a.Index, b.Index) })
	}
}
