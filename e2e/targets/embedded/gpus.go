package embedded

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/fakegpu"
	"github.com/studioml/studio-go-runner/runner/api"
)

// defaultProfile is the format's default (scenario.Runner).
const defaultProfile = "T4"

// gpus makes the fake GPUs of a runner, unless that was done before, and returns
// the variables that show them to it. The name is the seed of their UUIDs: the
// same scenario has the same GPUs in every run.
func (e *env) gpus(spec targets.RunnerSpec) ([]string, error) {
	config := e.target.config
	if config.NVMLLibrary == "" {
		return nil, errors.New("it has GPUs, but there is no fake NVML library")
	}
	dir := e.machine(spec)
	_, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		_, err = fakegpu.Create(dir, fakegpu.Spec{Profile: cmp.Or(spec.Profile, defaultProfile), Count: spec.GPUs, Seed: filepath.Base(filepath.Dir(dir))})
	}
	if err != nil {
		return nil, fmt.Errorf("make fake GPUs: %w", err)
	}
	variables := []string{"STUDIOML_NVML_LIBRARY=" + config.NVMLLibrary, fakegpu.EnvState + "=" + dir, "STUDIOML_GPU_LOCK=" + dir + ".locks"}
	if spec.Visible != "" {
		variables = append(variables, api.EnvNVDevices+"="+spec.Visible)
	}
	return variables, nil
}

// machine is the state directory of a runner's GPUs.
func (e *env) machine(spec targets.RunnerSpec) string {
	return filepath.Join(e.dir, "runners", cmp.Or(spec.Machine, spec.Name), "gpus")
}

// ChangeGPUs runs the fakegpu command, which is beside its library.
func (e *env) ChangeGPUs(ctx context.Context, spec targets.RunnerSpec, words []string) error {
	e.mu.Lock()
	_, err := e.gpus(spec)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	words = slices.Clone(words)
	words[slices.Index(words, "DIR")] = e.machine(spec)
	command := exec.CommandContext(ctx, filepath.Join(filepath.Dir(e.target.config.NVMLLibrary), "fakegpu"), words...)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
