package fakegpu

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// instance is a kind of GPU instance: NVIDIA's MIG user guide has them for the
// GPUs with seven compute slices. nvml_instance.c has the same.
type instance struct {
	id      uint64
	slices  uint64   // of the seven compute slices
	eighths uint64   // of the memory
	figures string   // the end of the keys that tell its multiprocessors and its MiB
	media   string   // the end of its name if it has the media engines that there is one of
	starts  []uint64 // where it can be, in eighths
}

var instances = []instance{
	{19, 1, 1, "1g", "", []uint64{0, 1, 2, 3, 4, 5, 6}},
	{20, 1, 1, "1g", "+me", []uint64{0, 1, 2, 3, 4, 5, 6}},
	{15, 1, 2, "1g_double", "", []uint64{0, 2, 4, 6}},
	{14, 2, 2, "2g", "", []uint64{0, 2, 4}},
	{9, 3, 4, "3g", "", []uint64{0, 4}},
	{5, 4, 4, "4g", "", []uint64{0}},
	{0, 7, 8, "7g", "", []uint64{0}},
}

func (i instance) sms(g GPU) uint64 { return g.Numbers["mig_sms_"+i.figures] }

// fillMIG adds the figures of the larger instances of which no public source was
// found for a model. Multiprocessors: as many as in the instances of two slices
// and of one that they have room for, and all of the GPU for all seven slices.
// Memory: as often that of two slices as their share is larger.
func (g *GPU) fillMIG() {
	n := g.Numbers
	if n["mig_max"] == 0 {
		return
	}
	for _, i := range instances {
		sms, mb := "mig_sms_"+i.figures, "mig_mb_"+i.figures
		n[mb] = cmp.Or(n[mb], n["mig_mb_2g"]*i.eighths/2)
		switch {
		case n[sms] != 0 || i.slices <= 2:
		case i.slices == 7:
			n[sms] = n["sms"]
		default:
			n[sms] = i.slices/2*n["mig_sms_2g"] + i.slices%2*n["mig_sms_1g"]
		}
	}
}

// name is what nvidia-smi calls it on a GPU: the share of the memory is in
// whole GiB.
func (i instance) name(g GPU) string {
	whole := (g.Numbers["memory"] + 1<<30 - 1) >> 30
	return fmt.Sprintf("%dg.%dgb%s", i.slices, (whole*i.eighths+4)/8, i.media)
}

// gi is the id that the driver gives to an instance by its place: those of a size
// are counted on from those of twice the size.
func (i instance) gi(start uint64) uint64 {
	return 8/i.eighths - 1 + start/i.eighths
}

// MIGProfiles lists what SplitMIG takes for a GPU.
func MIGProfiles(g GPU) []string {
	var names []string
	for _, i := range instances {
		if i.sms(g) != 0 {
			names = append(names, i.name(g))
		}
	}
	return names
}

// MIGName is the name of the profile of a MIG device, as 1g.10gb.
func (g GPU) MIGName(d MIG) string {
	for _, i := range instances {
		if i.id == d.Profile {
			return i.name(g)
		}
	}
	return fmt.Sprintf("%dg", d.Slices)
}

// SplitMIG turns MIG mode on and divides a GPU into MIG devices of profiles as
// 1g.10gb; without any it turns MIG mode off.
func SplitMIG(dir, gpu string, profiles ...string) error {
	return update(dir, "divide fake GPUs", func(m *Machine) error {
		return m.each(gpu, func(g *GPU) error { return g.split(profiles) })
	})
}

func (g *GPU) split(profiles []string) error {
	if g.Numbers["mig_max"] == 0 {
		return fmt.Errorf("%s cannot be divided", g.Name)
	}
	var kinds []instance
	for _, profile := range profiles {
		i, err := g.instance(profile)
		if err != nil {
			return err
		}
		kinds = append(kinds, i)
	}
	// The largest first: the others find room beside them.
	slices.SortStableFunc(kinds, func(a, b instance) int {
		return cmp.Or(cmp.Compare(b.eighths, a.eighths), cmp.Compare(b.slices, a.slices))
	})
	starts, ok := arrange(kinds, 0, 0)
	if !ok {
		return fmt.Errorf("%s has no room for %s", g.Name, strings.Join(profiles, " "))
	}
	g.MIGs, g.Numbers["mig_mode"] = nil, uint64(min(1, len(kinds)))
	for n, i := range kinds {
		g.MIGs = append(g.MIGs, MIG{
			GI: i.gi(starts[n]), Slices: i.slices, ComputeSlices: i.slices, SMs: i.sms(*g),
			Memory: g.Numbers["mig_mb_"+i.figures] << 20, Profile: i.id, Start: starts[n],
		})
	}
	// NVML counts them in the order of their instances.
	slices.SortFunc(g.MIGs, func(a, b MIG) int { return cmp.Compare(a.GI, b.GI) })
	for n := range g.MIGs {
		g.MIGs[n].UUID = uuid("MIG", fmt.Sprintf("%s/%d", g.UUID, n))
	}
	return nil
}

// arrange finds a place for each instance beside those that are taken, eighths as
// bits, and of the seven slices.
func arrange(kinds []instance, taken, used uint64) (starts []uint64, ok bool) {
	if len(kinds) == 0 {
		return nil, used <= 7
	}
	i, rest := kinds[0], kinds[1:]
	if i.media != "" && slices.ContainsFunc(rest, func(other instance) bool { return other.media != "" }) {
		return nil, false // there is one set of those engines
	}
	for _, start := range i.starts {
		bits := (uint64(1)<<i.eighths - 1) << start
		if taken&bits != 0 {
			continue
		}
		if starts, ok := arrange(rest, taken|bits, used+i.slices); ok {
			return append([]uint64{start}, starts...), true
		}
	}
	return nil, false
}

// instance finds a kind of GPU instance by its name.
func (g *GPU) instance(profile string) (instance, error) {
	for _, i := range instances {
		if i.sms(*g) != 0 && i.name(*g) == profile {
			return i, nil
		}
	}
	return instance{}, fmt.Errorf("MIG profile is %.120q; those of %s are %s", profile, g.Name, strings.Join(MIGProfiles(*g), ", "))
}
