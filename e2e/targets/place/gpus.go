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

// FakeGPUs makes the fake GPUs of a runner's machine, unless that was done
// before, and returns the variables that show them to the runner. The machine's
// name is the seed of their UUIDs: the same scenario has the same GPUs in every run.
func (p *Place) FakeGPUs(ctx context.Context, spec targets.RunnerSpec) (map[string]string, error) {
	dir, err := p.machine(ctx, spec)
	if err != nil {
		return nil, err
	}
	variables := map[string]string{
		"STUDIOML_NVML_LIBRARY": p.Layout.Library,
		fakegpu.EnvState:        dir,
		"STUDIOML_GPU_LOCK":     dir + ".locks", // of the scenario's machine, not of this one
	}
	if spec.Visible != "" {
		variables[api.EnvNVDevices] = spec.Visible
	}
	return variables, nil
}

// machine makes the state directory of a runner's GPUs, unless it is there.
func (p *Place) machine(ctx context.Context, spec targets.RunnerSpec) (dir string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := cmp.Or(spec.Machine, spec.Name)
	dir = path.Join(p.Layout.Machines, name)
	if p.machines[name] {
		return dir, nil
	}
	if err := p.fakegpu(ctx, "create", dir, "--profile="+spec.Profile, "--count="+strconv.Itoa(spec.GPUs), "--seed="+name); err != nil {
		return "", err
	}
	if p.machines == nil {
		p.machines = map[string]bool{}
	}
	p.machines[name] = true
	return dir, nil
}

// ChangeGPUs runs the fakegpu command on the state of a runner's GPUs.
func (p *Place) ChangeGPUs(ctx context.Context, spec targets.RunnerSpec, words []string) error {
	dir, err := p.machine(ctx, spec)
	if err != nil {
		return err
	}
	words = slices.Clone(words)
	words[slices.Index(words, "DIR")] = dir
	return p.fakegpu(ctx, words...)
}

// fakegpu runs the command that is beside the library.
func (p *Place) fakegpu(ctx context.Context, words ...string) error {
	if p.Layout.Library == "" {
		return errors.New("there is no fake NVML library for GPUs")
	}
	_, err := p.Output(ctx, nil, append([]string{path.Join(path.Dir(p.Layout.Library), "fakegpu")}, words...)...)
	return err
}
