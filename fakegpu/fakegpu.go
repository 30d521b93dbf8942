// Package fakegpu makes the state that the fake libnvidia-ml.so.1 in this
// directory shows to its clients. The state is a directory with one file, named
// state, which is replaced in one step: programs that have the library open see
// the new GPUs at their next call.
package fakegpu

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:generate go run ./gen

// MaxGPUs is how many GPUs one machine can have.
const MaxGPUs = 64

// maxReturn is the largest nvmlReturn_t, NVML_ERROR_UNKNOWN.
const maxReturn = 999

// EnvState names the state directory to the library.
const EnvState = "FAKEGPU_STATE"

// stateFile is where the library looks in the state directory.
const stateFile = "state"

// Spec says what machine to make.
type Spec struct {
	// Profile is the model of the GPUs, one of Profiles.
	Profile string
	// Count is how many there are, 0 to MaxGPUs.
	Count int
	// Seed makes the UUIDs: the same seed gives the same ones.
	Seed string
	// InitError is the code that nvmlInit returns, an nvmlReturn_t; 0 is success.
	InitError int
}

// Profile is a model of a GPU. The figures and their sources are in profiles/.
type Profile struct {
	Name              string `json:"name"`
	Brand             int    `json:"brand"`
	Architecture      int    `json:"architecture"`
	ComputeCapability [2]int `json:"computeCapability"`
	MemoryMiB         uint64 `json:"memoryMiB"`
	ReservedMiB       uint64 `json:"reservedMiB"`
	PCIDevice         uint32 `json:"pciDevice"`
	PCISubsystem      uint32 `json:"pciSubsystem"`
	Temperature       int    `json:"temperature"`
	PowerMilliwatts   int    `json:"powerMilliwatts"`
	ECC               bool   `json:"ecc"`
}

//go:embed profiles/*.yaml
var profiles embed.FS

// Profiles lists the names of the models.
func Profiles() []string {
	entries, err := profiles.ReadDir("profiles")
	if err != nil {
		panic(err) // they are part of the program
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// LoadProfile returns the model of that name.
func LoadProfile(name string) (Profile, error) {
	var p Profile
	if !slices.Contains(Profiles(), name) {
		return p, fmt.Errorf("profile is %q, allowed are %s", name, strings.Join(Profiles(), ", "))
	}
	text, err := profiles.ReadFile("profiles/" + name + ".yaml")
	if err != nil {
		return p, fmt.Errorf("read profile %s: %w", name, err)
	}
	if err := yaml.UnmarshalStrict(text, &p); err != nil {
		return p, fmt.Errorf("read profile %s: %w", name, err)
	}
	return p, nil
}

// GPU is one GPU of a machine, as people want to see it.
type GPU struct {
	UUID      string `json:"uuid"`
	Name      string `json:"name"`
	MemoryMiB uint64 `json:"memoryMiB"`
	Bus       int    `json:"bus"`
}

// Create makes the state directory, or replaces the machine that it holds, and
// returns the GPUs in NVML's order.
func Create(dir string, spec Spec) ([]GPU, error) {
	if spec.Count < 0 || spec.Count > MaxGPUs {
		return nil, fmt.Errorf("create fake GPUs: count is %d, allowed are 0 to %d", spec.Count, MaxGPUs)
	}
	if spec.InitError < 0 || spec.InitError > maxReturn {
		return nil, fmt.Errorf("create fake GPUs: init error is %d, allowed are 0 to %d", spec.InitError, maxReturn)
	}
	p, err := LoadProfile(spec.Profile)
	if err != nil {
		return nil, fmt.Errorf("create fake GPUs: %w", err)
	}
	var gpus []GPU
	for i := range spec.Count {
		gpus = append(gpus, GPU{UUID: uuid(spec.Seed, i), Name: p.Name, MemoryMiB: p.MemoryMiB, Bus: i + 1})
	}
	if err := replace(dir, format(p, spec, gpus)); err != nil {
		return nil, fmt.Errorf("create fake GPUs: %w", err)
	}
	return gpus, nil
}

// uuid is stable for a seed and an index.
func uuid(seed string, index int) string {
	s := sha256.Sum256(fmt.Appendf(nil, "%s/%d", seed, index))
	return fmt.Sprintf("GPU-%x-%x-%x-%x-%x", s[0:4], s[4:6], s[6:8], s[8:10], s[10:16])
}

// Versions that fit together: driver branch 580 is the one of CUDA 13.0
// (CUDA's release notes).
const (
	driverVersion = "580.95.05"
	cudaVersion   = 13000
)

// format writes the text that state.c reads.
func format(p Profile, spec Spec, gpus []GPU) []byte {
	var b bytes.Buffer
	line := func(key string, value any) { fmt.Fprintf(&b, "%s %v\n", key, value) }
	line("driver", driverVersion)
	line("nvml", fmt.Sprintf("%d.%s", cudaVersion/1000, driverVersion))
	line("cuda", cudaVersion)
	line("init", spec.InitError)
	for i, g := range gpus {
		line("gpu", g.UUID)
		line("name", p.Name)
		line("serial", fmt.Sprintf("13200%08d", i))
		line("brand", p.Brand)
		line("architecture", p.Architecture)
		line("cc-major", p.ComputeCapability[0])
		line("cc-minor", p.ComputeCapability[1])
		line("memory", p.MemoryMiB<<20)
		line("memory-used", 0)
		line("memory-reserved", p.ReservedMiB<<20)
		line("bus", g.Bus)
		line("pci-device", p.PCIDevice)
		line("pci-subsystem", p.PCISubsystem)
		line("temperature", p.Temperature)
		line("power", p.PowerMilliwatts)
		ecc := 0
		if p.ECC {
			ecc = 1
		}
		line("ecc", ecc)
	}
	b.WriteString("end\n")
	return b.Bytes()
}

// replace puts the state file in place in one step, so that no client ever
// reads half of it.
func replace(dir string, text []byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".state-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it was renamed, which is fine
	_, err = f.Write(text)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Chmod(f.Name(), 0o644) // clients may be other users
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, stateFile))
}

// List returns the GPUs of a state directory.
func List(dir string) ([]GPU, error) {
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, fmt.Errorf("list fake GPUs: %w; make some with fakegpu create", err)
	}
	if !bytes.HasSuffix(text, []byte("\nend\n")) {
		return nil, fmt.Errorf("list fake GPUs: %s is damaged; replace it with fakegpu create", filepath.Join(dir, stateFile))
	}
	gpus := []GPU{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if key == "gpu" {
			gpus = append(gpus, GPU{UUID: value})
			continue
		}
		if len(gpus) == 0 {
			continue
		}
		g := &gpus[len(gpus)-1]
		switch key {
		case "name":
			g.Name = value
		case "memory":
			var bytes uint64
			err = json.Unmarshal([]byte(value), &bytes)
			g.MemoryMiB = bytes >> 20
		case "bus":
			err = json.Unmarshal([]byte(value), &g.Bus)
		}
		if err != nil {
			return nil, fmt.Errorf("list fake GPUs: %s is %q: %w", key, value, err)
		}
	}
	return gpus, nil
}
