package fakegpu

import (
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
)

// Spec says what machine to make.
type Spec struct {
	// Profile is the model of the GPUs, one of Profiles.
	Profile string
	// Count is how many there are, 0 to MaxGPUs.
	Count int
	// Models are for a machine with more than one model, instead of Profile and
	// Count: so many of each, in this order.
	Models []Model
	// Seed makes the UUIDs: the same seed gives the same ones.
	Seed string
	// InitError is the code that nvmlInit returns, an nvmlReturn_t; 0 is success.
	InitError uint64
}

// Model is a number of GPUs of one profile.
type Model struct {
	Profile string
	Count   int
}

// Versions that fit together: driver branch 580 is the one of CUDA 13.0
// (CUDA's release notes).
const (
	driverVersion = "580.95.05"
	cudaVersion   = 13000
)

// Create makes the state directory, or replaces the machine that it holds, and
// returns the GPUs. The journal of events stays.
func Create(dir string, spec Spec) ([]GPU, error) {
	m := Machine{
		Driver: driverVersion, NVML: fmt.Sprintf("%d.%s", cudaVersion/1000, driverVersion), CUDA: cudaVersion,
		Init: spec.InitError,
	}
	err := m.add(spec)
	if err == nil {
		err = m.check()
	}
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = locked(dir, func() error { return replace(dir, m) })
	}
	if err != nil {
		return nil, fmt.Errorf("create fake GPUs: %w", err)
	}
	return m.GPUs, nil
}

// Add plugs more GPUs in, as hot as you like. The init error of the spec is
// not looked at.
func Add(dir string, spec Spec) error {
	return update(dir, "add fake GPUs", func(m *Machine) error { return m.add(spec) })
}

// add makes the GPUs of a spec. Two neighbours share a PCIe switch; on a
// machine with more than four the second half is at the other NUMA node.
func (m *Machine) add(spec Spec) error {
	models := spec.Models
	if len(models) == 0 {
		models = []Model{{spec.Profile, spec.Count}}
	}
	var plugged []GPU
	for _, model := range models {
		if room := MaxGPUs - len(m.GPUs) - len(plugged); model.Count < 0 || model.Count > room {
			return fmt.Errorf("count is %d, must be 0 to %d", model.Count, room)
		}
		p, err := LoadProfile(model.Profile)
		if err != nil {
			return err
		}
		if err := p.complete(); err != nil {
			return fmt.Errorf("profile %s: %w", model.Profile, err)
		}
		for range model.Count {
			plugged = append(plugged, p.clone())
		}
	}
	all := len(m.GPUs) + len(plugged)
	n := 0
	for _, g := range plugged {
		for g.UUID == "" || slices.ContainsFunc(m.GPUs, func(other GPU) bool { return other.UUID == g.UUID }) {
			g.UUID = uuid("GPU", fmt.Sprintf("%s/%d", spec.Seed, n))
			n++
		}
		minor := uint64(0)
		for slices.ContainsFunc(m.GPUs, func(g GPU) bool { return g.Numbers["minor"] == minor }) {
			minor++
		}
		g.Serial = fmt.Sprintf("13200%08d", minor)
		g.Numbers["minor"], g.Numbers["bus"], g.Numbers["module"] = minor, minor+1, minor+1
		g.Numbers["pcie_switch"] = minor/2 + 1
		g.Numbers["numa"] = 0
		if all > 4 && minor >= uint64(all+1)/2 {
			g.Numbers["numa"] = 1
		}
		m.GPUs = append(m.GPUs, g)
	}
	return nil
}

// uuid is stable for a name.
func uuid(prefix, name string) string {
	s := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%s-%x-%x-%x-%x-%x", prefix, s[0:4], s[4:6], s[6:8], s[8:10], s[10:16])
}
