package place

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"strconv"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/fakegpu"
	"github.com/studioml/studio-go-runner/runner/api"
)

// FakeGPUs makes the fake GPUs of a runner's machine, unless that was done before,
// and returns the variables that show them to the runner.
func (p *Place) FakeGPUs(ctx context.Context, spec targets.RunnerSpec) (map[string]string, error) {
	return p.ShowGPUs(spec), p.makeGPUs(ctx, spec)
}

// ChangeGPUs runs the fakegpu command on the state of a runner's GPUs.
func (p *Place) ChangeGPUs(ctx context.Context, spec targets.RunnerSpec, words []string) error {
	err := p.makeGPUs(ctx, spec)
	if err == nil {
		_, err = p.Output(ctx, nil, p.GPUCommand(spec, words)...)
	}
	return err
}

func (p *Place) makeGPUs(ctx context.Context, spec targets.RunnerSpec) error {
	if p.Layout.Library == "" {
		return errors.New("there is no fake NVML library for GPUs")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	dir := p.gpus(spec)
	if p.machines[dir] {
		return nil
	}
	if _, err := p.Output(ctx, nil, p.CreateGPUs(spec)...); err != nil {
		return err
	}
	if p.machines == nil {
		p.machines = map[string]bool{}
	}
	p.machines[dir] = true
	return nil
}

// gpus is the directory of the state of a runner's GPUs.
func (p *Place) gpus(spec targets.RunnerSpec) string {
	return path.Join(p.Layout.Machines, cmp.Or(spec.Machine, spec.Name))
}

// ShowGPUs are the variables that show fake GPUs to a runner.
func (p *Place) ShowGPUs(spec targets.RunnerSpec) map[string]string {
	dir := p.gpus(spec)
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
	words[slices.Index(words, "DIR")] = p.gpus(spec)
	return append([]string{path.Join(path.Dir(p.Layout.Library), "fakegpu")}, words...)
}
