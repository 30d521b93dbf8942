package place

import (
	"cmp"
	"path"
	"slices"
	"strconv"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/fakegpu"
	"github.com/studioml/studio-go-runner/runner/api"
)

// GPUs is the directory of the state of a runner's fake GPUs.
func (p *Place) GPUs(spec targets.RunnerSpec) string {
	return path.Join(p.Layout.Machines, cmp.Or(spec.Machine, spec.Name))
}

// ShowGPUs are the variables that show fake GPUs to a runner.
func (p *Place) ShowGPUs(spec targets.RunnerSpec) map[string]string {
	dir := p.GPUs(spec)
	variables := map[string]string{
		"STUDIOML_NVML_LIBRARY": p.Layout.Library,
		fakegpu.EnvState:        dir,
		"STUDIOML_GPU_LOCK":     dir + ".locks", // of the scenario's machine, not of this one
	}
	if spec.Visible != "" {
		variables[api.EnvNVDevices] = spec.Visible
	}
	return variables
}

// CreateGPUs is the command that makes them. The machine's name is the seed of their
// UUIDs: the same scenario has the same GPUs in every run.
func (p *Place) CreateGPUs(spec targets.RunnerSpec) []string {
	return p.GPUCommand(spec, []string{"create", "DIR", "--profile=" + spec.Profile, "--count=" + strconv.Itoa(spec.GPUs), "--seed=" + cmp.Or(spec.Machine, spec.Name)})
}

// GPUCommand is a command line of fakegpu, with the directory for the word DIR. The
// program is beside the library.
func (p *Place) GPUCommand(spec targets.RunnerSpec, words []string) []string {
	words = slices.Clone(words)
	words[slices.Index(words, "DIR")] = p.GPUs(spec)
	return append([]string{path.Join(path.Dir(p.Layout.Library), "fakegpu")}, words...)
}
