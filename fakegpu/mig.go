package fakegpu

import (
	"fmt"
	"strings"
)

// instance is a kind of GPU instance: NVIDIA's MIG user guide has them for the
// GPUs with seven compute slices.
type instance struct {
	slices  uint64 // of the seven compute slices
	eighths uint64 // of the memory
	sms     string // the key that tells its multiprocessors
}

// instances is what nvml_mig.c has as well.
var instances = []instance{
	{1, 1, "mig_sms_1g"}, {1, 2, "mig_sms_1g_double"}, {2, 2, "mig_sms_2g"},
	{3, 4, "mig_sms_3g"}, {4, 4, "mig_sms_4g"}, {7, 8, "mig_sms_7g"},
}

// fillMIG adds the multiprocessors of the larger instances of which no public
// source was found for a model: as many as in the instances of two slices and of
// one that they have room for, and all of the GPU for all seven slices.
func (g *GPU) fillMIG() {
	n := g.Numbers
	if n["mig_max"] == 0 {
		return
	}
	for _, i := range instances {
		switch {
		case n[i.sms] != 0 || i.slices <= 2:
		case i.slices == 7:
			n[i.sms] = n["sms"]
		default:
			n[i.sms] = i.slices/2*n["mig_sms_2g"] + i.slices%2*n["mig_sms_1g"]
		}
	}
}

// name is what nvidia-smi calls it on a GPU: the share of the memory is in
// whole GiB.
func (i instance) name(g *GPU) string {
	whole := (g.Numbers["memory"] + 1<<30 - 1) >> 30
	return fmt.Sprintf("%dg.%dgb", i.slices, (whole*i.eighths+4)/8)
}

// SplitMIG turns MIG mode on and divides a GPU into MIG devices of profiles as
// 1g.10gb; without any it turns MIG mode off.
func SplitMIG(dir, gpu string, profiles ...string) error {
	return update(dir, "divide fake GPUs", func(m *Machine) error {
		return m.each(gpu, func(g *GPU) error { return g.split(profiles) })
	})
}

func (g *GPU) split(profiles []string) error {
	most := g.Numbers["mig_max"]
	if most == 0 {
		return fmt.Errorf("%s cannot be divided", g.Name)
	}
	g.MIGs, g.Numbers["mig_mode"] = nil, 0
	var slicesUsed, eighthsUsed uint64
	for n, profile := range profiles {
		i, err := g.instance(profile)
		if err != nil {
			return err
		}
		slicesUsed += i.slices
		eighthsUsed += i.eighths
		g.Numbers["mig_mode"] = 1
		g.MIGs = append(g.MIGs, MIG{
			UUID: uuid("MIG", fmt.Sprintf("%s/%d", g.UUID, n)), GI: uint64(n + 1),
			Slices: i.slices, ComputeSlices: i.slices, SMs: g.Numbers[i.sms],
			// The driver keeps some of it, how much depends on its version.
			Memory: g.Numbers["memory"] >> 20 * i.eighths / 8 << 20,
		})
	}
	if slicesUsed > most || eighthsUsed > 8 {
		return fmt.Errorf("%s has no room for %s", g.Name, strings.Join(profiles, " "))
	}
	return nil
}

// instance finds a kind of GPU instance by its name.
func (g *GPU) instance(profile string) (instance, error) {
	for _, i := range instances {
		if g.Numbers[i.sms] != 0 && i.name(g) == profile {
			return i, nil
		}
	}
	return instance{}, fmt.Errorf("MIG profile is %.120q, allowed for %s are %s", profile, g.Name, strings.Join(MIGProfiles(*g), ", "))
}

// MIGProfiles lists what SplitMIG takes for a GPU.
func MIGProfiles(g GPU) []string {
	var names []string
	for _, i := range instances {
		if g.Numbers[i.sms] != 0 {
			names = append(names, i.name(&g))
		}
	}
	return names
}
