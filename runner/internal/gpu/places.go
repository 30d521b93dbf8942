package gpu

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

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
			m.places = append(m.places, Device{Index: i})
		}
	}
	if start {
		slices.SortStableFunc(m.places, func(a, b Device) int { return cmp.Compare(a.Index, b.Index) })
	}
}
